# Print an optspec for argparse to handle cmd's options that are independent of any subcommand.
function __fish_clip_onnx_global_optspecs
    string join \n h/help V/version
end

function __fish_clip_onnx_needs_command
    # Figure out if the current invocation already has a command.
    set -l cmd (commandline -opc)
    set -e cmd[1]
    argparse -s (__fish_clip_onnx_global_optspecs) -- $cmd 2>/dev/null
    or return
    if set -q argv[1]
        # Also print the command, so this can be used to figure out what it is.
        echo $argv[1]
        return 1
    end
    return 0
end

function __fish_clip_onnx_using_subcommand
    set -l cmd (__fish_clip_onnx_needs_command)
    test -z "$cmd"
    and return 1
    contains -- $cmd[1] $argv
end

complete -c clip-onnx -n "__fish_clip_onnx_needs_command" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c clip-onnx -n "__fish_clip_onnx_needs_command" -s V -l version -d 'Print version'
complete -c clip-onnx -n "__fish_clip_onnx_needs_command" -f -a "export" -d 'Write a checkpoint\'s towers as ONNX, and verify them'
complete -c clip-onnx -n "__fish_clip_onnx_needs_command" -f -a "verify" -d 'Run ONNX towers with tract and ONNX Runtime, and compare them with reference embeddings'
complete -c clip-onnx -n "__fish_clip_onnx_needs_command" -f -a "bench" -d 'Time ONNX towers with tract and ONNX Runtime'
complete -c clip-onnx -n "__fish_clip_onnx_needs_command" -f -a "embed" -d 'Embed photographs and sentences with an exported folder'
complete -c clip-onnx -n "__fish_clip_onnx_needs_command" -f -a "classify" -d 'Say what a photograph shows, of labels given or built in'
complete -c clip-onnx -n "__fish_clip_onnx_needs_command" -f -a "convert" -d 'Write a checkpoint under open_clip\'s names, as safetensors'
complete -c clip-onnx -n "__fish_clip_onnx_needs_command" -f -a "inspect" -d 'Say what a checkpoint or an ONNX file is'
complete -c clip-onnx -n "__fish_clip_onnx_needs_command" -f -a "models" -d 'List the models that are known'
complete -c clip-onnx -n "__fish_clip_onnx_needs_command" -f -a "completions" -d 'Print a completion script for a shell'
complete -c clip-onnx -n "__fish_clip_onnx_needs_command" -f -a "man" -d 'Print a manual page, or write them all'
complete -c clip-onnx -n "__fish_clip_onnx_needs_command" -f -a "help" -d 'Print this message or the help of the given subcommand(s)'
complete -c clip-onnx -n "__fish_clip_onnx_using_subcommand export" -s o -l out -d 'Folder to write' -r -F
complete -c clip-onnx -n "__fish_clip_onnx_using_subcommand export" -l model -d 'Model by name, instead of finding it from names and shapes (`clip-onnx models` lists them)' -r
complete -c clip-onnx -n "__fish_clip_onnx_using_subcommand export" -l config -d 'Model from a JSON file of the form of models/*.json, or a transformers config.json' -r -F
complete -c clip-onnx -n "__fish_clip_onnx_using_subcommand export" -l dialect -d 'Whose numbers to follow: `original` (the authors\' code), `open_clip` or `transformers`. Default: the naming the file was published under, or what `convert` recorded in it' -r
complete -c clip-onnx -n "__fish_clip_onnx_using_subcommand export" -l image-size -d 'Image size to build for: a number, or HEIGHTxWIDTH. Positions are resampled by the rule of the model\'s dialect; a NaFlex model becomes an ordinary one of that size' -r
complete -c clip-onnx -n "__fish_clip_onnx_using_subcommand export" -l layout -d 'Whose folder to write: `plain` (two towers side by side), `hf` (transformers.js, optimum, fastembed: onnx/, config.json, preprocessor_config.json, tokenizer files; SigLIP\'s outputs last_hidden_state and pooler_output; embeddings not normalised), `immich` (visual/, textual/, int32 tokens), `immich-uint8` (its newer contract: images as bytes), `clip-as-service`, `open_clip` (a repository that open_clip loads from local-dir: the weights under its names, open_clip_config.json, and the towers in onnx/)' -r
complete -c clip-onnx -n "__fish_clip_onnx_using_subcommand export" -l tokenizer -d 'The model\'s tokenizer.json, to go with the towers. CLIP\'s is built in, and goes with other layouts than `plain` without being named' -r -F
complete -c clip-onnx -n "__fish_clip_onnx_using_subcommand export" -l tokens -d 'Type of token ids: int32 or int64. Default: as the layout has them, and for `plain` the target' -r
complete -c clip-onnx -n "__fish_clip_onnx_using_subcommand export" -l image -d 'How images come: `float` (float32 [batch_size, 3, H, W], preprocessed), `uint8` (bytes as decoders leave them, [batch_size, H, W, 3 or 4]; alpha is dropped, scale, mean and deviation are in the graph) or `uint8-nchw` ([batch_size, 3 or 4, H, W]). Default: as the layout has them' -r -f -a "float\t''
uint8\t''
uint8-nchw\t''"
complete -c clip-onnx -n "__fish_clip_onnx_using_subcommand export" -l labels -d 'Write one classifier.onnx instead of the towers, which says how likely each label of this file, in UTF-8, one a line, is: the text tower is run now, and its outcome, scale and bias become part of the file' -r -F
complete -c clip-onnx -n "__fish_clip_onnx_using_subcommand export" -l template -d 'Sentence around each label, with {} in its place; may be repeated, and the mean embedding is taken' -r
complete -c clip-onnx -n "__fish_clip_onnx_using_subcommand export" -l outputs -d 'Outputs besides embeddings: last_hidden_state (of both towers every place of the last block, as transformers has it) and patch_tokens (every patch of an image, normed). They switch off the economies of the last block and of texts. For two towers of the layouts `plain`, `hf` and `open_clip`' -r -f -a "last_hidden_state\t''
patch_tokens\t''"
complete -c clip-onnx -n "__fish_clip_onnx_using_subcommand export" -l target -d 'Who the files are for: `portable` (opset 17, loads everywhere), `onnxruntime` (opset 23, its `Attention`, text cut at the batch\'s last end token, weights beside the model), or providers of ONNX Runtime: `mobile` (NNAPI, XNNPACK), `coreml` (ML Program), `qnn` (HTP), all of a fixed batch, 1 where nothing is said, and `web` (WebGPU; WebNN with --static). Tokens are int32 for these, where the layout is `plain` or `open_clip`' -r
complete -c clip-onnx -n "__fish_clip_onnx_using_subcommand export" -l opset -d 'Version of the operator set, within what the target allows: 17 to 22 for `portable`, 23 or 24 for `onnxruntime`, 17 to 19 for `mobile`, 20 to 22 for `coreml` and `qnn`, 20 or 21 for `web`' -r
complete -c clip-onnx -n "__fish_clip_onnx_using_subcommand export" -l static -d 'Fix the batch to N rows: for NPUs and others that take no free axes (bytes have 3 channels then)' -r
complete -c clip-onnx -n "__fish_clip_onnx_using_subcommand export" -l precision -d 'Precisions to write each tower in: fp32, fp16 (arithmetic too), fp16-weights, int8 (integer products, input quantised as it comes), int8-weights, int4 (weights in blocks of 32), int4-fp16' -r
complete -c clip-onnx -n "__fish_clip_onnx_using_subcommand export" -l keep -d 'Layers whose names hold TEXT stay in higher precision, of all but fp16 and for int4 in int8; may be repeated (report.json has the names)' -r
complete -c clip-onnx -n "__fish_clip_onnx_using_subcommand export" -l calibrate -d 'Inputs to measure with, of the form of a reference (`image`, `tokens`): scales follow what layers really meet, biases make up for what weights lose on average, and layers stay in higher precision until what is measured on them is within --max-drop; without it 0.01 for int4, 0.002 for int8, 0.001 for int8-weights' -r -F
complete -c clip-onnx -n "__fish_clip_onnx_using_subcommand export" -l max-drop -d 'Keep as many layers in higher precision as it takes for cosines with fp32 to be at least 1 - DROP, measured on the inputs of --calibrate, --reference or made-up ones, and hold the files to it' -r
complete -c clip-onnx -n "__fish_clip_onnx_using_subcommand export" -l reference -d 'Reference embeddings to hold the files to' -r -F
complete -c clip-onnx -n "__fish_clip_onnx_using_subcommand export" -l batches -d 'Batch sizes to verify at. Default: 1,2,3' -r
complete -c clip-onnx -n "__fish_clip_onnx_using_subcommand export" -l engine -d 'Engines to run files with, instead of all at hand: `tract`, which is built in, and `onnxruntime`' -r -f -a "tract\t''
onnxruntime\t''"
complete -c clip-onnx -n "__fish_clip_onnx_using_subcommand export" -l ort-lib -d 'ONNX Runtime\'s library (libonnxruntime.so, .dylib, .dll; pip\'s onnxruntime has it in capi/), to run files with it too. Default: what ORT_DYLIB_PATH names' -r -F
complete -c clip-onnx -n "__fish_clip_onnx_using_subcommand export" -l force -d 'Replace the folder if it is one of clip-onnx\'s'
complete -c clip-onnx -n "__fish_clip_onnx_using_subcommand export" -l demo -d 'Add a web page that classifies photographs with the folder it stands in, in the browser (index.html, demo/; serve the folder, as with `python3 -m http.server`), and the tokenizer it needs'
complete -c clip-onnx -n "__fish_clip_onnx_using_subcommand export" -l resize -d 'Resize and crop in the graph, as the model\'s preprocessing does it: bytes of any height and width (--image uint8 where nothing is said; opset 18 or later; layout `plain`, a target that fixes no axis). Alpha is dropped before'
complete -c clip-onnx -n "__fish_clip_onnx_using_subcommand export" -l combined -d 'Write one model.onnx with both towers instead of two files: logits_per_image, logits_per_text, text_embeds, image_embeds, scale and bias inside'
complete -c clip-onnx -n "__fish_clip_onnx_using_subcommand export" -l no-normalize -d 'Leave embeddings as they come, without L2 normalisation'
complete -c clip-onnx -n "__fish_clip_onnx_using_subcommand export" -l dynamic-text -d 'Take texts of any length up to the context, where no target fixes every axis: input_ids [batch_size, sequence_length], as `hf` does without being asked. With causal text towers (CLIP, MobileCLIP-B) short texts cost what they are long; others fill them up inside'
complete -c clip-onnx -n "__fish_clip_onnx_using_subcommand export" -l no-fold -d 'Leave training-time branches, BatchNorms and layer scales as nodes of the graph, to compare'
complete -c clip-onnx -n "__fish_clip_onnx_using_subcommand export" -l no-last-block -d 'Compute the last block for all places, though one is pooled, to compare'
complete -c clip-onnx -n "__fish_clip_onnx_using_subcommand export" -l no-map-query -d 'Compute keys and values of the MAP head for all places, to compare'
complete -c clip-onnx -n "__fish_clip_onnx_using_subcommand export" -l no-text-cut -d 'Compute text behind the batch\'s last end token, to compare (target `onnxruntime`)'
complete -c clip-onnx -n "__fish_clip_onnx_using_subcommand export" -l no-plain-depthwise -d 'Keep depthwise convolutions of several outputs a channel as one, to compare'
complete -c clip-onnx -n "__fish_clip_onnx_using_subcommand export" -l no-auto-keep -d 'Keep no layer in higher precision that is not named by --keep, whatever it loses, measured or not'
complete -c clip-onnx -n "__fish_clip_onnx_using_subcommand export" -l reduce-range -d 'int8 weights in 7 bits, for x86 CPUs without VNNI, whose 8-bit products can overflow'
complete -c clip-onnx -n "__fish_clip_onnx_using_subcommand export" -l zero-points -d 'Give blocks of int4 zero points: as a rule a little more exact, 0.1 bit a weight more'
complete -c clip-onnx -n "__fish_clip_onnx_using_subcommand export" -l external-data -d 'Write weights beside the model (<file>_data) even below 2 GiB'
complete -c clip-onnx -n "__fish_clip_onnx_using_subcommand export" -l no-hash -d 'Leave out SHA-256 sums, of the checkpoint and of what is written, and do not check the sums of members an archive holds as they are (deflated ones are checked): about a quarter of the CPU time'
complete -c clip-onnx -n "__fish_clip_onnx_using_subcommand export" -l no-verify -d 'Do not load and run the files; no report.json is written'
complete -c clip-onnx -n "__fish_clip_onnx_using_subcommand export" -l bench -d 'Time every file too, one item on one thread; the figures go into report.json and report.html'
complete -c clip-onnx -n "__fish_clip_onnx_using_subcommand export" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c clip-onnx -n "__fish_clip_onnx_using_subcommand export" -s V -l version -d 'Print version'
complete -c clip-onnx -n "__fish_clip_onnx_using_subcommand verify" -l reference -d 'Reference embeddings' -r -F
complete -c clip-onnx -n "__fish_clip_onnx_using_subcommand verify" -l batches -d 'Batch sizes to run at' -r
complete -c clip-onnx -n "__fish_clip_onnx_using_subcommand verify" -l engine -d 'Engines to run files with, instead of all at hand: `tract`, which is built in, and `onnxruntime`' -r -f -a "tract\t''
onnxruntime\t''"
complete -c clip-onnx -n "__fish_clip_onnx_using_subcommand verify" -l ort-lib -d 'ONNX Runtime\'s library (libonnxruntime.so, .dylib, .dll; pip\'s onnxruntime has it in capi/), to run files with it too. Default: what ORT_DYLIB_PATH names' -r -F
complete -c clip-onnx -n "__fish_clip_onnx_using_subcommand verify" -l max-drop -d 'Hold embeddings of other precisions than fp32 to a cosine of at least 1 - DROP' -r
complete -c clip-onnx -n "__fish_clip_onnx_using_subcommand verify" -l json -d 'Print the report as JSON'
complete -c clip-onnx -n "__fish_clip_onnx_using_subcommand verify" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c clip-onnx -n "__fish_clip_onnx_using_subcommand verify" -s V -l version -d 'Print version'
complete -c clip-onnx -n "__fish_clip_onnx_using_subcommand bench" -l batches -d 'Batch sizes to time' -r
complete -c clip-onnx -n "__fish_clip_onnx_using_subcommand bench" -l threads -d 'Numbers of threads to time with' -r
complete -c clip-onnx -n "__fish_clip_onnx_using_subcommand bench" -l rounds -d 'Timed runs of each' -r
complete -c clip-onnx -n "__fish_clip_onnx_using_subcommand bench" -l tokens -d 'Length of texts, start and end tokens included, instead of the whole context' -r
complete -c clip-onnx -n "__fish_clip_onnx_using_subcommand bench" -l engine -d 'Engines to run files with, instead of all at hand: `tract`, which is built in, and `onnxruntime`' -r -f -a "tract\t''
onnxruntime\t''"
complete -c clip-onnx -n "__fish_clip_onnx_using_subcommand bench" -l ort-lib -d 'ONNX Runtime\'s library (libonnxruntime.so, .dylib, .dll; pip\'s onnxruntime has it in capi/), to run files with it too. Default: what ORT_DYLIB_PATH names' -r -F
complete -c clip-onnx -n "__fish_clip_onnx_using_subcommand bench" -l json -d 'Print JSON'
complete -c clip-onnx -n "__fish_clip_onnx_using_subcommand bench" -l here -d 'Time one file here, as the processes of the command do'
complete -c clip-onnx -n "__fish_clip_onnx_using_subcommand bench" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c clip-onnx -n "__fish_clip_onnx_using_subcommand bench" -s V -l version -d 'Print version'
complete -c clip-onnx -n "__fish_clip_onnx_using_subcommand embed" -l precision -d 'Files of this precision. Default: fp32, or the first there is' -r
complete -c clip-onnx -n "__fish_clip_onnx_using_subcommand embed" -l tokenizer -d 'The model\'s tokenizer.json, where its vocabulary is not built in (SigLIP) and the folder has none' -r -F
complete -c clip-onnx -n "__fish_clip_onnx_using_subcommand embed" -l batch -d 'Photographs or sentences that are run at once' -r
complete -c clip-onnx -n "__fish_clip_onnx_using_subcommand embed" -l threads -d 'Threads of ONNX Runtime; all cores where nothing is said. tract has one' -r
complete -c clip-onnx -n "__fish_clip_onnx_using_subcommand embed" -l engine -d 'Engines to run files with, instead of all at hand: `tract`, which is built in, and `onnxruntime`' -r -f -a "tract\t''
onnxruntime\t''"
complete -c clip-onnx -n "__fish_clip_onnx_using_subcommand embed" -l ort-lib -d 'ONNX Runtime\'s library (libonnxruntime.so, .dylib, .dll; pip\'s onnxruntime has it in capi/), to run files with it too. Default: what ORT_DYLIB_PATH names' -r -F
complete -c clip-onnx -n "__fish_clip_onnx_using_subcommand embed" -l image -d 'Photographs: files, folders (with what is in them, however deep), or patterns such as \'photos/*.jpg\'' -r -F
complete -c clip-onnx -n "__fish_clip_onnx_using_subcommand embed" -l text -d 'Sentences' -r
complete -c clip-onnx -n "__fish_clip_onnx_using_subcommand embed" -l texts -d 'Sentences from a file in UTF-8, one a line; blank lines are left out' -r -F
complete -c clip-onnx -n "__fish_clip_onnx_using_subcommand embed" -s o -l out -d 'File to write: .npy (names in FILE.names.txt), .json or .safetensors. Without it a table is printed. A run that was stopped goes on where it was: what is done is kept in FILE.partial until the end' -r -F
complete -c clip-onnx -n "__fish_clip_onnx_using_subcommand embed" -l orient -d 'Turn and mirror photographs as their orientation tags say. The models\' own pipelines do not, and neither is it done without this'
complete -c clip-onnx -n "__fish_clip_onnx_using_subcommand embed" -l force -d 'Replace FILE'
complete -c clip-onnx -n "__fish_clip_onnx_using_subcommand embed" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c clip-onnx -n "__fish_clip_onnx_using_subcommand embed" -s V -l version -d 'Print version'
complete -c clip-onnx -n "__fish_clip_onnx_using_subcommand classify" -l precision -d 'Files of this precision. Default: fp32, or the first there is' -r
complete -c clip-onnx -n "__fish_clip_onnx_using_subcommand classify" -l tokenizer -d 'The model\'s tokenizer.json, where its vocabulary is not built in (SigLIP) and the folder has none' -r -F
complete -c clip-onnx -n "__fish_clip_onnx_using_subcommand classify" -l batch -d 'Photographs or sentences that are run at once' -r
complete -c clip-onnx -n "__fish_clip_onnx_using_subcommand classify" -l threads -d 'Threads of ONNX Runtime; all cores where nothing is said. tract has one' -r
complete -c clip-onnx -n "__fish_clip_onnx_using_subcommand classify" -l engine -d 'Engines to run files with, instead of all at hand: `tract`, which is built in, and `onnxruntime`' -r -f -a "tract\t''
onnxruntime\t''"
complete -c clip-onnx -n "__fish_clip_onnx_using_subcommand classify" -l ort-lib -d 'ONNX Runtime\'s library (libonnxruntime.so, .dylib, .dll; pip\'s onnxruntime has it in capi/), to run files with it too. Default: what ORT_DYLIB_PATH names' -r -F
complete -c clip-onnx -n "__fish_clip_onnx_using_subcommand classify" -l labels -d 'What it may show, from a file in UTF-8, one a line; blank lines are left out' -r -F
complete -c clip-onnx -n "__fish_clip_onnx_using_subcommand classify" -l template -d 'Sentence around each label, with {} in its place. Default: \'a photo of a {}\'' -r
complete -c clip-onnx -n "__fish_clip_onnx_using_subcommand classify" -l orient -d 'Turn and mirror photographs as their orientation tags say. The models\' own pipelines do not, and neither is it done without this'
complete -c clip-onnx -n "__fish_clip_onnx_using_subcommand classify" -l json -d 'Print JSON'
complete -c clip-onnx -n "__fish_clip_onnx_using_subcommand classify" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c clip-onnx -n "__fish_clip_onnx_using_subcommand classify" -s V -l version -d 'Print version'
complete -c clip-onnx -n "__fish_clip_onnx_using_subcommand convert" -s o -l out -d 'The .safetensors file to write' -r -F
complete -c clip-onnx -n "__fish_clip_onnx_using_subcommand convert" -l model -d 'Model by name, instead of finding it from names and shapes (`clip-onnx models` lists them)' -r
complete -c clip-onnx -n "__fish_clip_onnx_using_subcommand convert" -l config -d 'Model from a JSON file of the form of models/*.json, or a transformers config.json' -r -F
complete -c clip-onnx -n "__fish_clip_onnx_using_subcommand convert" -l dialect -d 'Whose numbers to follow: `original` (the authors\' code), `open_clip` or `transformers`. Default: the naming the file was published under, or what `convert` recorded in it' -r
complete -c clip-onnx -n "__fish_clip_onnx_using_subcommand convert" -l image-size -d 'Image size to resample positions to: a number, or HEIGHTxWIDTH; freezes NaFlex' -r
complete -c clip-onnx -n "__fish_clip_onnx_using_subcommand convert" -l force -d 'Replace the file if it is there'
complete -c clip-onnx -n "__fish_clip_onnx_using_subcommand convert" -l reparameterize -d 'Fold MobileCLIP\'s training-time branches, under timm\'s names for the folded form'
complete -c clip-onnx -n "__fish_clip_onnx_using_subcommand convert" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c clip-onnx -n "__fish_clip_onnx_using_subcommand convert" -s V -l version -d 'Print version'
complete -c clip-onnx -n "__fish_clip_onnx_using_subcommand inspect" -l model -d 'Model by name, instead of finding it from names and shapes (`clip-onnx models` lists them)' -r
complete -c clip-onnx -n "__fish_clip_onnx_using_subcommand inspect" -l config -d 'Model from a JSON file of the form of models/*.json, or a transformers config.json' -r -F
complete -c clip-onnx -n "__fish_clip_onnx_using_subcommand inspect" -l dialect -d 'Whose numbers to follow: `original` (the authors\' code), `open_clip` or `transformers`. Default: the naming the file was published under, or what `convert` recorded in it' -r
complete -c clip-onnx -n "__fish_clip_onnx_using_subcommand inspect" -l provider -d 'Of an ONNX file, say which nodes these execution providers of ONNX Runtime would not take, and why: coreml (ML Program), nnapi, qnn (HTP), xnnpack, webgpu, webnn, cpu. A prediction; nothing is run' -r
complete -c clip-onnx -n "__fish_clip_onnx_using_subcommand inspect" -l tensors -d 'List tensors whose name contains TEXT; all without it' -r
complete -c clip-onnx -n "__fish_clip_onnx_using_subcommand inspect" -l json -d 'Print JSON'
complete -c clip-onnx -n "__fish_clip_onnx_using_subcommand inspect" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c clip-onnx -n "__fish_clip_onnx_using_subcommand inspect" -s V -l version -d 'Print version'
complete -c clip-onnx -n "__fish_clip_onnx_using_subcommand models" -l json -d 'Print JSON: the full configuration of every model'
complete -c clip-onnx -n "__fish_clip_onnx_using_subcommand models" -s h -l help -d 'Print help'
complete -c clip-onnx -n "__fish_clip_onnx_using_subcommand models" -s V -l version -d 'Print version'
complete -c clip-onnx -n "__fish_clip_onnx_using_subcommand completions" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c clip-onnx -n "__fish_clip_onnx_using_subcommand completions" -s V -l version -d 'Print version'
complete -c clip-onnx -n "__fish_clip_onnx_using_subcommand man" -l out -d 'Write every page into this folder, as clip-onnx.1, clip-onnx-export.1 and so on' -r -F
complete -c clip-onnx -n "__fish_clip_onnx_using_subcommand man" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c clip-onnx -n "__fish_clip_onnx_using_subcommand man" -s V -l version -d 'Print version'
complete -c clip-onnx -n "__fish_clip_onnx_using_subcommand help; and not __fish_seen_subcommand_from export verify bench embed classify convert inspect models completions man help" -f -a "export" -d 'Write a checkpoint\'s towers as ONNX, and verify them'
complete -c clip-onnx -n "__fish_clip_onnx_using_subcommand help; and not __fish_seen_subcommand_from export verify bench embed classify convert inspect models completions man help" -f -a "verify" -d 'Run ONNX towers with tract and ONNX Runtime, and compare them with reference embeddings'
complete -c clip-onnx -n "__fish_clip_onnx_using_subcommand help; and not __fish_seen_subcommand_from export verify bench embed classify convert inspect models completions man help" -f -a "bench" -d 'Time ONNX towers with tract and ONNX Runtime'
complete -c clip-onnx -n "__fish_clip_onnx_using_subcommand help; and not __fish_seen_subcommand_from export verify bench embed classify convert inspect models completions man help" -f -a "embed" -d 'Embed photographs and sentences with an exported folder'
complete -c clip-onnx -n "__fish_clip_onnx_using_subcommand help; and not __fish_seen_subcommand_from export verify bench embed classify convert inspect models completions man help" -f -a "classify" -d 'Say what a photograph shows, of labels given or built in'
complete -c clip-onnx -n "__fish_clip_onnx_using_subcommand help; and not __fish_seen_subcommand_from export verify bench embed classify convert inspect models completions man help" -f -a "convert" -d 'Write a checkpoint under open_clip\'s names, as safetensors'
complete -c clip-onnx -n "__fish_clip_onnx_using_subcommand help; and not __fish_seen_subcommand_from export verify bench embed classify convert inspect models completions man help" -f -a "inspect" -d 'Say what a checkpoint or an ONNX file is'
complete -c clip-onnx -n "__fish_clip_onnx_using_subcommand help; and not __fish_seen_subcommand_from export verify bench embed classify convert inspect models completions man help" -f -a "models" -d 'List the models that are known'
complete -c clip-onnx -n "__fish_clip_onnx_using_subcommand help; and not __fish_seen_subcommand_from export verify bench embed classify convert inspect models completions man help" -f -a "completions" -d 'Print a completion script for a shell'
complete -c clip-onnx -n "__fish_clip_onnx_using_subcommand help; and not __fish_seen_subcommand_from export verify bench embed classify convert inspect models completions man help" -f -a "man" -d 'Print a manual page, or write them all'
complete -c clip-onnx -n "__fish_clip_onnx_using_subcommand help; and not __fish_seen_subcommand_from export verify bench embed classify convert inspect models completions man help" -f -a "help" -d 'Print this message or the help of the given subcommand(s)'

# Print an optspec for argparse to handle cmd's options that are independent of any subcommand.
function __fish_clip_onnx_global_optspecs
    string join \n settings= no-settings max-memory= h/help V/version
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

complete -c clip-onnx -n "__fish_clip_onnx_needs_command" -l settings -d 'Settings file [default: clip-onnx.toml in the working folder]' -r -F
complete -c clip-onnx -n "__fish_clip_onnx_needs_command" -l max-memory -d 'Memory that may be used, such as 4G; Linux only' -r
complete -c clip-onnx -n "__fish_clip_onnx_needs_command" -l no-settings -d 'Ignore clip-onnx.toml'
complete -c clip-onnx -n "__fish_clip_onnx_needs_command" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c clip-onnx -n "__fish_clip_onnx_needs_command" -s V -l version -d 'Print version'
complete -c clip-onnx -n "__fish_clip_onnx_needs_command" -f -a "export" -d 'Write a checkpoint\'s towers as ONNX, and verify them'
complete -c clip-onnx -n "__fish_clip_onnx_needs_command" -f -a "verify" -d 'Run ONNX towers, and compare them with reference embeddings'
complete -c clip-onnx -n "__fish_clip_onnx_needs_command" -f -a "bench" -d 'Time ONNX towers with tract and ONNX Runtime'
complete -c clip-onnx -n "__fish_clip_onnx_needs_command" -f -a "embed" -d 'Embed photographs and sentences with an exported folder'
complete -c clip-onnx -n "__fish_clip_onnx_needs_command" -f -a "classify" -d 'Give the probabilities of labels for photographs'
complete -c clip-onnx -n "__fish_clip_onnx_needs_command" -f -a "convert" -d 'Write a checkpoint under open_clip\'s names, as safetensors'
complete -c clip-onnx -n "__fish_clip_onnx_needs_command" -f -a "inspect" -d 'Describe a checkpoint or an ONNX file'
complete -c clip-onnx -n "__fish_clip_onnx_needs_command" -f -a "models" -d 'List the models that are known by name'
complete -c clip-onnx -n "__fish_clip_onnx_needs_command" -f -a "completions" -d 'Print a completion script for a shell'
complete -c clip-onnx -n "__fish_clip_onnx_needs_command" -f -a "man" -d 'Print a manual page, or write all of them'
complete -c clip-onnx -n "__fish_clip_onnx_needs_command" -f -a "help" -d 'Print this message or the help of the given subcommand(s)'
complete -c clip-onnx -n "__fish_clip_onnx_using_subcommand export" -l profile -d 'A named set of flags for a purpose; flags that you type win over it' -r -f -a "server\t'--target onnxruntime --precision fp32,int8'
android\t'--target mobile --precision fp16-weights'
iphone\t'--target coreml --precision fp16'
npu\t'--target qnn'
browser\t'--target web --precision fp16 --demo'
immich\t'--layout immich'
transformers-js\t'--layout hf --precision fp32,fp16,int8,int4'
fastembed\t'--layout hf'"
complete -c clip-onnx -n "__fish_clip_onnx_using_subcommand export" -l model -d 'Model by name, instead of detecting it from tensor names and shapes' -r -f -a "EVA02-B-16\t''
EVA02-L-14-336\t''
EVA02-L-14\t''
LongCLIP-B-16\t''
LongCLIP-L-14\t''
MobileCLIP-B\t''
MobileCLIP-L-14\t''
MobileCLIP-S0\t''
MobileCLIP-S1\t''
MobileCLIP-S2\t''
MobileCLIP-S3\t''
MobileCLIP-S4\t''
MobileCLIP2-B\t''
MobileCLIP2-L-14\t''
MobileCLIP2-S0\t''
MobileCLIP2-S2\t''
MobileCLIP2-S3\t''
MobileCLIP2-S4\t''
ViT-B-16-SigLIP-256\t''
ViT-B-16-SigLIP-384\t''
ViT-B-16-SigLIP-512\t''
ViT-B-16-SigLIP-i18n-256\t''
ViT-B-16-SigLIP\t''
ViT-B-16-SigLIP2-256\t''
ViT-B-16-SigLIP2-384\t''
ViT-B-16-SigLIP2-512\t''
ViT-B-16-SigLIP2-NaFlex\t''
ViT-B-16-SigLIP2\t''
ViT-B-16-quickgelu\t''
ViT-B-16\t''
ViT-B-32-256\t''
ViT-B-32-SigLIP2-256\t''
ViT-B-32-quickgelu\t''
ViT-B-32\t''
ViT-H-14-378-quickgelu\t''
ViT-H-14-378\t''
ViT-H-14-quickgelu\t''
ViT-H-14\t''
ViT-L-14-336-quickgelu\t''
ViT-L-14-336\t''
ViT-L-14-quickgelu\t''
ViT-L-14\t''
ViT-L-16-SigLIP-256\t''
ViT-L-16-SigLIP-384\t''
ViT-L-16-SigLIP2-256\t''
ViT-L-16-SigLIP2-384\t''
ViT-L-16-SigLIP2-512\t''
ViT-SO400M-14-SigLIP-384\t''
ViT-SO400M-14-SigLIP\t''
ViT-SO400M-14-SigLIP2-378\t''
ViT-SO400M-14-SigLIP2\t''
ViT-SO400M-16-SigLIP-i18n-256\t''
ViT-SO400M-16-SigLIP2-256\t''
ViT-SO400M-16-SigLIP2-384\t''
ViT-SO400M-16-SigLIP2-512\t''
ViT-SO400M-16-SigLIP2-NaFlex\t''
ViT-gopt-16-SigLIP2-256\t''
ViT-gopt-16-SigLIP2-384\t''"
complete -c clip-onnx -n "__fish_clip_onnx_using_subcommand export" -l config -d 'Model configuration: JSON as in models/, or a config.json' -r -F
complete -c clip-onnx -n "__fish_clip_onnx_using_subcommand export" -l dialect -d 'Whose numbers to reproduce, where implementations differ' -r -f -a "original\t'the authors\' code (big_vision, Apple)'
open_clip\t'open_clip\'s code'
transformers\t'transformers\' code'"
complete -c clip-onnx -n "__fish_clip_onnx_using_subcommand export" -l weights-prefix -d 'Start of the weights\' names, where a checkpoint holds several models' -r
complete -c clip-onnx -n "__fish_clip_onnx_using_subcommand export" -l only -d 'One tower alone' -r -f -a "image\t''
text\t''"
complete -c clip-onnx -n "__fish_clip_onnx_using_subcommand export" -l adapter -d 'LoRA adapter to merge into the weights, a folder by PEFT; may be repeated' -r -f -a "(__fish_complete_directories)"
complete -c clip-onnx -n "__fish_clip_onnx_using_subcommand export" -l image-size -d 'Image size to build for: N, or HEIGHTxWIDTH' -r
complete -c clip-onnx -n "__fish_clip_onnx_using_subcommand export" -l tokenizer -d 'The model\'s tokenizer.json, where none is beside the checkpoint' -r -F
complete -c clip-onnx -n "__fish_clip_onnx_using_subcommand export" -l target -d 'Runtimes that the files are for' -r -f -a "portable\t'ONNX Runtime, its web build, OpenVINO, TensorRT, rten, MNN, OpenCV 5, IREE, tract'
onnxruntime\t'ONNX Runtime from 1.23'
mobile\t'ONNX Runtime on Android and iOS: NNAPI, XNNPACK, CPU'
coreml\t'ONNX Runtime from 1.17: CoreML (ML Program)'
qnn\t'ONNX Runtime from 1.17: QNN (HTP)'
web\t'ONNX Runtime\'s web build from 1.17: WebGPU, WebNN, wasm'"
complete -c clip-onnx -n "__fish_clip_onnx_using_subcommand export" -l opset -d 'ONNX operator set, within the range of the target' -r
complete -c clip-onnx -n "__fish_clip_onnx_using_subcommand export" -l static -d 'Fix the batch to N rows, so that no axis is dynamic' -r
complete -c clip-onnx -n "__fish_clip_onnx_using_subcommand export" -l labels -d 'Write one classifier.onnx: an image in, the probability of each label out' -r
complete -c clip-onnx -n "__fish_clip_onnx_using_subcommand export" -l labels-file -d 'Labels from a file in UTF-8, one a line' -r -F
complete -c clip-onnx -n "__fish_clip_onnx_using_subcommand export" -l template -d 'Sentence around each label, with {} in its place; repeatable' -r
complete -c clip-onnx -n "__fish_clip_onnx_using_subcommand export" -l image-type -d 'Element type and axes of image inputs [default: that of the layout]' -r -f -a "float\t'preprocessed, float32 [batch_size, 3, H, W]'
uint8\t'decoded, [batch_size, H, W, 3 or 4]; alpha is dropped'
uint8-nchw\t'decoded, [batch_size, 3 or 4, H, W]; alpha is dropped'"
complete -c clip-onnx -n "__fish_clip_onnx_using_subcommand export" -l token-type -d 'Element type of token ids [default: that of layout and target]' -r -f -a "int32\t''
int64\t''"
complete -c clip-onnx -n "__fish_clip_onnx_using_subcommand export" -l outputs -d 'Outputs besides embeddings' -r -f -a "last_hidden_state\t'every position of both towers\' last block, as in transformers'
patch_tokens\t'every patch of an image after the last LayerNorm'"
complete -c clip-onnx -n "__fish_clip_onnx_using_subcommand export" -l precision -d 'Precisions to write each tower in' -r -f -a "fp32\t'float32'
fp16\t'float16 weights and arithmetic'
fp16-weights\t'float16 weights, float32 arithmetic: half the size'
int8\t'int8 weights, integer products: fastest on CPUs'
int8-weights\t'int8 weights, float32 arithmetic: a quarter of the size'
int4\t'int4 weights, float32 arithmetic: smallest'
int4-fp16\t'int4 weights, float16 arithmetic'"
complete -c clip-onnx -n "__fish_clip_onnx_using_subcommand export" -l calibrate -d 'Representative inputs to calibrate int8 and int4 with' -r -F
complete -c clip-onnx -n "__fish_clip_onnx_using_subcommand export" -l max-drop -d 'Keep cosines with fp32 at 1 - DROP or above' -r
complete -c clip-onnx -n "__fish_clip_onnx_using_subcommand export" -l exclude -d 'Leave layers whose names contain TEXT in higher precision; repeatable' -r
complete -c clip-onnx -n "__fish_clip_onnx_using_subcommand export" -s o -l out -d 'Folder to write' -r -f -a "(__fish_complete_directories)"
complete -c clip-onnx -n "__fish_clip_onnx_using_subcommand export" -l layout -d 'Program whose folder layout, names and types to use' -r -f -a "plain\t'two towers side by side'
hf\t'transformers.js, optimum, fastembed'
immich\t'Immich, fed floats'
immich-uint8\t'Immich, fed bytes (its newer contract)'
clip-as-service\t'clip-as-service (clip-server)'
open_clip\t'a repository that open_clip loads, with ONNX towers in onnx/'"
complete -c clip-onnx -n "__fish_clip_onnx_using_subcommand export" -l reference -d 'Reference embeddings to compare the files with' -r -F
complete -c clip-onnx -n "__fish_clip_onnx_using_subcommand export" -l batches -d 'Batch sizes to verify at [default: 1,2,3]' -r
complete -c clip-onnx -n "__fish_clip_onnx_using_subcommand export" -l engine -d 'Engines to run files with [default: all available]' -r -f -a "tract\t'built in, one thread'
onnxruntime\t'needs --ort-lib or ORT_DYLIB_PATH'"
complete -c clip-onnx -n "__fish_clip_onnx_using_subcommand export" -l ort-lib -d 'ONNX Runtime\'s shared library, to run files with it too' -r -F
complete -c clip-onnx -n "__fish_clip_onnx_using_subcommand export" -l settings -d 'Settings file [default: clip-onnx.toml in the working folder]' -r -F
complete -c clip-onnx -n "__fish_clip_onnx_using_subcommand export" -l max-memory -d 'Memory that may be used, such as 4G; Linux only' -r
complete -c clip-onnx -n "__fish_clip_onnx_using_subcommand export" -l dynamic-text -d 'Let texts have any length: input_ids [batch_size, sequence_length]'
complete -c clip-onnx -n "__fish_clip_onnx_using_subcommand export" -l no-normalize -d 'Leave embeddings without L2 normalisation'
complete -c clip-onnx -n "__fish_clip_onnx_using_subcommand export" -l combined -d 'Write one model.onnx with both towers and their logits'
complete -c clip-onnx -n "__fish_clip_onnx_using_subcommand export" -l resize -d 'Resize and crop in the graph; images are bytes of any size'
complete -c clip-onnx -n "__fish_clip_onnx_using_subcommand export" -l no-auto-exclude -d 'Quantise every layer that --exclude does not name'
complete -c clip-onnx -n "__fish_clip_onnx_using_subcommand export" -l reduce-range -d 'int8: weights of 7 bits, for x86 CPUs without VNNI'
complete -c clip-onnx -n "__fish_clip_onnx_using_subcommand export" -l zero-points -d 'int4: blocks with zero points'
complete -c clip-onnx -n "__fish_clip_onnx_using_subcommand export" -l force -d 'Replace the folder if it is an earlier export'
complete -c clip-onnx -n "__fish_clip_onnx_using_subcommand export" -l demo -d 'Add a web page that classifies photographs in the browser'
complete -c clip-onnx -n "__fish_clip_onnx_using_subcommand export" -l external-data -d 'Write weights to <file>_data even below 2 GiB'
complete -c clip-onnx -n "__fish_clip_onnx_using_subcommand export" -l no-hash -d 'Skip SHA-256 sums and the checksums of the checkpoint\'s members'
complete -c clip-onnx -n "__fish_clip_onnx_using_subcommand export" -l bench -d 'Time every file too, one item on one thread'
complete -c clip-onnx -n "__fish_clip_onnx_using_subcommand export" -l no-verify -d 'Do not run the files; no report is written'
complete -c clip-onnx -n "__fish_clip_onnx_using_subcommand export" -l no-fold -d 'Keep training-time branches, BatchNorms and layer scales as nodes'
complete -c clip-onnx -n "__fish_clip_onnx_using_subcommand export" -l no-last-block -d 'Compute the last block for every position, not only the pooled one'
complete -c clip-onnx -n "__fish_clip_onnx_using_subcommand export" -l no-map-query -d 'Do not fold the constant query of SigLIP\'s attention pooling'
complete -c clip-onnx -n "__fish_clip_onnx_using_subcommand export" -l no-text-cut -d 'Do not cut texts behind the last end token (target onnxruntime)'
complete -c clip-onnx -n "__fish_clip_onnx_using_subcommand export" -l no-plain-depthwise -d 'Keep depthwise convolutions with several outputs a channel'
complete -c clip-onnx -n "__fish_clip_onnx_using_subcommand export" -l no-settings -d 'Ignore clip-onnx.toml'
complete -c clip-onnx -n "__fish_clip_onnx_using_subcommand export" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c clip-onnx -n "__fish_clip_onnx_using_subcommand export" -s V -l version -d 'Print version'
complete -c clip-onnx -n "__fish_clip_onnx_using_subcommand verify" -l reference -d 'Reference embeddings to compare with' -r -F
complete -c clip-onnx -n "__fish_clip_onnx_using_subcommand verify" -l batches -d 'Batch sizes to run' -r
complete -c clip-onnx -n "__fish_clip_onnx_using_subcommand verify" -l engine -d 'Engines to run files with [default: all available]' -r -f -a "tract\t'built in, one thread'
onnxruntime\t'needs --ort-lib or ORT_DYLIB_PATH'"
complete -c clip-onnx -n "__fish_clip_onnx_using_subcommand verify" -l ort-lib -d 'ONNX Runtime\'s shared library, to run files with it too' -r -F
complete -c clip-onnx -n "__fish_clip_onnx_using_subcommand verify" -l max-drop -d 'Require a cosine of at least 1 - DROP from precisions other than fp32' -r
complete -c clip-onnx -n "__fish_clip_onnx_using_subcommand verify" -l settings -d 'Settings file [default: clip-onnx.toml in the working folder]' -r -F
complete -c clip-onnx -n "__fish_clip_onnx_using_subcommand verify" -l max-memory -d 'Memory that may be used, such as 4G; Linux only' -r
complete -c clip-onnx -n "__fish_clip_onnx_using_subcommand verify" -l json -d 'Print the report as JSON'
complete -c clip-onnx -n "__fish_clip_onnx_using_subcommand verify" -l no-settings -d 'Ignore clip-onnx.toml'
complete -c clip-onnx -n "__fish_clip_onnx_using_subcommand verify" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c clip-onnx -n "__fish_clip_onnx_using_subcommand verify" -s V -l version -d 'Print version'
complete -c clip-onnx -n "__fish_clip_onnx_using_subcommand bench" -l batches -d 'Batch sizes to time' -r
complete -c clip-onnx -n "__fish_clip_onnx_using_subcommand bench" -l threads -d 'Numbers of threads to time with' -r
complete -c clip-onnx -n "__fish_clip_onnx_using_subcommand bench" -l rounds -d 'Timed runs of each file and batch size' -r
complete -c clip-onnx -n "__fish_clip_onnx_using_subcommand bench" -l text-length -d 'Length of texts in tokens, instead of the whole context' -r
complete -c clip-onnx -n "__fish_clip_onnx_using_subcommand bench" -l engine -d 'Engines to run files with [default: all available]' -r -f -a "tract\t'built in, one thread'
onnxruntime\t'needs --ort-lib or ORT_DYLIB_PATH'"
complete -c clip-onnx -n "__fish_clip_onnx_using_subcommand bench" -l ort-lib -d 'ONNX Runtime\'s shared library, to run files with it too' -r -F
complete -c clip-onnx -n "__fish_clip_onnx_using_subcommand bench" -l settings -d 'Settings file [default: clip-onnx.toml in the working folder]' -r -F
complete -c clip-onnx -n "__fish_clip_onnx_using_subcommand bench" -l max-memory -d 'Memory that may be used, such as 4G; Linux only' -r
complete -c clip-onnx -n "__fish_clip_onnx_using_subcommand bench" -l json -d 'Print JSON'
complete -c clip-onnx -n "__fish_clip_onnx_using_subcommand bench" -l here -d 'Time one file in this process; the command starts itself so for each row'
complete -c clip-onnx -n "__fish_clip_onnx_using_subcommand bench" -l no-settings -d 'Ignore clip-onnx.toml'
complete -c clip-onnx -n "__fish_clip_onnx_using_subcommand bench" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c clip-onnx -n "__fish_clip_onnx_using_subcommand bench" -s V -l version -d 'Print version'
complete -c clip-onnx -n "__fish_clip_onnx_using_subcommand embed" -l image -d 'Photographs: files, folders, or patterns such as \'photos/*.jpg\'' -r -F
complete -c clip-onnx -n "__fish_clip_onnx_using_subcommand embed" -l text -d 'Sentences' -r
complete -c clip-onnx -n "__fish_clip_onnx_using_subcommand embed" -l texts -d 'Sentences from a file in UTF-8, one a line; blank lines are skipped' -r -F
complete -c clip-onnx -n "__fish_clip_onnx_using_subcommand embed" -s o -l out -d 'File to write: .npy, .json or .safetensors [default: print a table]' -r -F
complete -c clip-onnx -n "__fish_clip_onnx_using_subcommand embed" -l precision -d 'Precision of the files to use [default: fp32, or the first there is]' -r -f -a "fp32\t'float32'
fp16\t'float16 weights and arithmetic'
fp16-weights\t'float16 weights, float32 arithmetic: half the size'
int8\t'int8 weights, integer products: fastest on CPUs'
int8-weights\t'int8 weights, float32 arithmetic: a quarter of the size'
int4\t'int4 weights, float32 arithmetic: smallest'
int4-fp16\t'int4 weights, float16 arithmetic'"
complete -c clip-onnx -n "__fish_clip_onnx_using_subcommand embed" -l tokenizer -d 'The model\'s tokenizer.json, where the folder has none' -r -F
complete -c clip-onnx -n "__fish_clip_onnx_using_subcommand embed" -l batch -d 'Photographs or sentences that are run at once' -r
complete -c clip-onnx -n "__fish_clip_onnx_using_subcommand embed" -l threads -d 'Threads of ONNX Runtime [default: all cores]' -r
complete -c clip-onnx -n "__fish_clip_onnx_using_subcommand embed" -l engine -d 'Engines to run files with [default: all available]' -r -f -a "tract\t'built in, one thread'
onnxruntime\t'needs --ort-lib or ORT_DYLIB_PATH'"
complete -c clip-onnx -n "__fish_clip_onnx_using_subcommand embed" -l ort-lib -d 'ONNX Runtime\'s shared library, to run files with it too' -r -F
complete -c clip-onnx -n "__fish_clip_onnx_using_subcommand embed" -l settings -d 'Settings file [default: clip-onnx.toml in the working folder]' -r -F
complete -c clip-onnx -n "__fish_clip_onnx_using_subcommand embed" -l max-memory -d 'Memory that may be used, such as 4G; Linux only' -r
complete -c clip-onnx -n "__fish_clip_onnx_using_subcommand embed" -l force -d 'Replace FILE if it exists'
complete -c clip-onnx -n "__fish_clip_onnx_using_subcommand embed" -l orient -d 'Rotate and flip photographs as their orientation tags say'
complete -c clip-onnx -n "__fish_clip_onnx_using_subcommand embed" -l no-settings -d 'Ignore clip-onnx.toml'
complete -c clip-onnx -n "__fish_clip_onnx_using_subcommand embed" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c clip-onnx -n "__fish_clip_onnx_using_subcommand embed" -s V -l version -d 'Print version'
complete -c clip-onnx -n "__fish_clip_onnx_using_subcommand classify" -l labels -d 'Labels, separated by commas [default: those of the folder]' -r
complete -c clip-onnx -n "__fish_clip_onnx_using_subcommand classify" -l labels-file -d 'Labels from a file in UTF-8, one a line; blank lines are skipped' -r -F
complete -c clip-onnx -n "__fish_clip_onnx_using_subcommand classify" -l template -d 'Sentence around each label, with {} in its place [default: a photo of a {}]' -r
complete -c clip-onnx -n "__fish_clip_onnx_using_subcommand classify" -l precision -d 'Precision of the files to use [default: fp32, or the first there is]' -r -f -a "fp32\t'float32'
fp16\t'float16 weights and arithmetic'
fp16-weights\t'float16 weights, float32 arithmetic: half the size'
int8\t'int8 weights, integer products: fastest on CPUs'
int8-weights\t'int8 weights, float32 arithmetic: a quarter of the size'
int4\t'int4 weights, float32 arithmetic: smallest'
int4-fp16\t'int4 weights, float16 arithmetic'"
complete -c clip-onnx -n "__fish_clip_onnx_using_subcommand classify" -l tokenizer -d 'The model\'s tokenizer.json, where the folder has none' -r -F
complete -c clip-onnx -n "__fish_clip_onnx_using_subcommand classify" -l batch -d 'Photographs or sentences that are run at once' -r
complete -c clip-onnx -n "__fish_clip_onnx_using_subcommand classify" -l threads -d 'Threads of ONNX Runtime [default: all cores]' -r
complete -c clip-onnx -n "__fish_clip_onnx_using_subcommand classify" -l engine -d 'Engines to run files with [default: all available]' -r -f -a "tract\t'built in, one thread'
onnxruntime\t'needs --ort-lib or ORT_DYLIB_PATH'"
complete -c clip-onnx -n "__fish_clip_onnx_using_subcommand classify" -l ort-lib -d 'ONNX Runtime\'s shared library, to run files with it too' -r -F
complete -c clip-onnx -n "__fish_clip_onnx_using_subcommand classify" -l settings -d 'Settings file [default: clip-onnx.toml in the working folder]' -r -F
complete -c clip-onnx -n "__fish_clip_onnx_using_subcommand classify" -l max-memory -d 'Memory that may be used, such as 4G; Linux only' -r
complete -c clip-onnx -n "__fish_clip_onnx_using_subcommand classify" -l json -d 'Print JSON'
complete -c clip-onnx -n "__fish_clip_onnx_using_subcommand classify" -l orient -d 'Rotate and flip photographs as their orientation tags say'
complete -c clip-onnx -n "__fish_clip_onnx_using_subcommand classify" -l no-settings -d 'Ignore clip-onnx.toml'
complete -c clip-onnx -n "__fish_clip_onnx_using_subcommand classify" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c clip-onnx -n "__fish_clip_onnx_using_subcommand classify" -s V -l version -d 'Print version'
complete -c clip-onnx -n "__fish_clip_onnx_using_subcommand convert" -s o -l out -d 'The .safetensors file to write' -r -F
complete -c clip-onnx -n "__fish_clip_onnx_using_subcommand convert" -l model -d 'Model by name, instead of detecting it from tensor names and shapes' -r -f -a "EVA02-B-16\t''
EVA02-L-14-336\t''
EVA02-L-14\t''
LongCLIP-B-16\t''
LongCLIP-L-14\t''
MobileCLIP-B\t''
MobileCLIP-L-14\t''
MobileCLIP-S0\t''
MobileCLIP-S1\t''
MobileCLIP-S2\t''
MobileCLIP-S3\t''
MobileCLIP-S4\t''
MobileCLIP2-B\t''
MobileCLIP2-L-14\t''
MobileCLIP2-S0\t''
MobileCLIP2-S2\t''
MobileCLIP2-S3\t''
MobileCLIP2-S4\t''
ViT-B-16-SigLIP-256\t''
ViT-B-16-SigLIP-384\t''
ViT-B-16-SigLIP-512\t''
ViT-B-16-SigLIP-i18n-256\t''
ViT-B-16-SigLIP\t''
ViT-B-16-SigLIP2-256\t''
ViT-B-16-SigLIP2-384\t''
ViT-B-16-SigLIP2-512\t''
ViT-B-16-SigLIP2-NaFlex\t''
ViT-B-16-SigLIP2\t''
ViT-B-16-quickgelu\t''
ViT-B-16\t''
ViT-B-32-256\t''
ViT-B-32-SigLIP2-256\t''
ViT-B-32-quickgelu\t''
ViT-B-32\t''
ViT-H-14-378-quickgelu\t''
ViT-H-14-378\t''
ViT-H-14-quickgelu\t''
ViT-H-14\t''
ViT-L-14-336-quickgelu\t''
ViT-L-14-336\t''
ViT-L-14-quickgelu\t''
ViT-L-14\t''
ViT-L-16-SigLIP-256\t''
ViT-L-16-SigLIP-384\t''
ViT-L-16-SigLIP2-256\t''
ViT-L-16-SigLIP2-384\t''
ViT-L-16-SigLIP2-512\t''
ViT-SO400M-14-SigLIP-384\t''
ViT-SO400M-14-SigLIP\t''
ViT-SO400M-14-SigLIP2-378\t''
ViT-SO400M-14-SigLIP2\t''
ViT-SO400M-16-SigLIP-i18n-256\t''
ViT-SO400M-16-SigLIP2-256\t''
ViT-SO400M-16-SigLIP2-384\t''
ViT-SO400M-16-SigLIP2-512\t''
ViT-SO400M-16-SigLIP2-NaFlex\t''
ViT-gopt-16-SigLIP2-256\t''
ViT-gopt-16-SigLIP2-384\t''"
complete -c clip-onnx -n "__fish_clip_onnx_using_subcommand convert" -l config -d 'Model configuration: JSON as in models/, or a config.json' -r -F
complete -c clip-onnx -n "__fish_clip_onnx_using_subcommand convert" -l dialect -d 'Whose numbers to reproduce, where implementations differ' -r -f -a "original\t'the authors\' code (big_vision, Apple)'
open_clip\t'open_clip\'s code'
transformers\t'transformers\' code'"
complete -c clip-onnx -n "__fish_clip_onnx_using_subcommand convert" -l weights-prefix -d 'Start of the weights\' names, where a checkpoint holds several models' -r
complete -c clip-onnx -n "__fish_clip_onnx_using_subcommand convert" -l only -d 'One tower alone' -r -f -a "image\t''
text\t''"
complete -c clip-onnx -n "__fish_clip_onnx_using_subcommand convert" -l adapter -d 'LoRA adapter to merge into the weights, a folder by PEFT; may be repeated' -r -f -a "(__fish_complete_directories)"
complete -c clip-onnx -n "__fish_clip_onnx_using_subcommand convert" -l image-size -d 'Image size to resample positions to: N, or HEIGHTxWIDTH' -r
complete -c clip-onnx -n "__fish_clip_onnx_using_subcommand convert" -l settings -d 'Settings file [default: clip-onnx.toml in the working folder]' -r -F
complete -c clip-onnx -n "__fish_clip_onnx_using_subcommand convert" -l max-memory -d 'Memory that may be used, such as 4G; Linux only' -r
complete -c clip-onnx -n "__fish_clip_onnx_using_subcommand convert" -l force -d 'Replace the file if it exists'
complete -c clip-onnx -n "__fish_clip_onnx_using_subcommand convert" -l reparameterize -d 'Fold MobileCLIP\'s training-time branches'
complete -c clip-onnx -n "__fish_clip_onnx_using_subcommand convert" -l no-settings -d 'Ignore clip-onnx.toml'
complete -c clip-onnx -n "__fish_clip_onnx_using_subcommand convert" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c clip-onnx -n "__fish_clip_onnx_using_subcommand convert" -s V -l version -d 'Print version'
complete -c clip-onnx -n "__fish_clip_onnx_using_subcommand inspect" -l model -d 'Model by name, instead of detecting it from tensor names and shapes' -r -f -a "EVA02-B-16\t''
EVA02-L-14-336\t''
EVA02-L-14\t''
LongCLIP-B-16\t''
LongCLIP-L-14\t''
MobileCLIP-B\t''
MobileCLIP-L-14\t''
MobileCLIP-S0\t''
MobileCLIP-S1\t''
MobileCLIP-S2\t''
MobileCLIP-S3\t''
MobileCLIP-S4\t''
MobileCLIP2-B\t''
MobileCLIP2-L-14\t''
MobileCLIP2-S0\t''
MobileCLIP2-S2\t''
MobileCLIP2-S3\t''
MobileCLIP2-S4\t''
ViT-B-16-SigLIP-256\t''
ViT-B-16-SigLIP-384\t''
ViT-B-16-SigLIP-512\t''
ViT-B-16-SigLIP-i18n-256\t''
ViT-B-16-SigLIP\t''
ViT-B-16-SigLIP2-256\t''
ViT-B-16-SigLIP2-384\t''
ViT-B-16-SigLIP2-512\t''
ViT-B-16-SigLIP2-NaFlex\t''
ViT-B-16-SigLIP2\t''
ViT-B-16-quickgelu\t''
ViT-B-16\t''
ViT-B-32-256\t''
ViT-B-32-SigLIP2-256\t''
ViT-B-32-quickgelu\t''
ViT-B-32\t''
ViT-H-14-378-quickgelu\t''
ViT-H-14-378\t''
ViT-H-14-quickgelu\t''
ViT-H-14\t''
ViT-L-14-336-quickgelu\t''
ViT-L-14-336\t''
ViT-L-14-quickgelu\t''
ViT-L-14\t''
ViT-L-16-SigLIP-256\t''
ViT-L-16-SigLIP-384\t''
ViT-L-16-SigLIP2-256\t''
ViT-L-16-SigLIP2-384\t''
ViT-L-16-SigLIP2-512\t''
ViT-SO400M-14-SigLIP-384\t''
ViT-SO400M-14-SigLIP\t''
ViT-SO400M-14-SigLIP2-378\t''
ViT-SO400M-14-SigLIP2\t''
ViT-SO400M-16-SigLIP-i18n-256\t''
ViT-SO400M-16-SigLIP2-256\t''
ViT-SO400M-16-SigLIP2-384\t''
ViT-SO400M-16-SigLIP2-512\t''
ViT-SO400M-16-SigLIP2-NaFlex\t''
ViT-gopt-16-SigLIP2-256\t''
ViT-gopt-16-SigLIP2-384\t''"
complete -c clip-onnx -n "__fish_clip_onnx_using_subcommand inspect" -l config -d 'Model configuration: JSON as in models/, or a config.json' -r -F
complete -c clip-onnx -n "__fish_clip_onnx_using_subcommand inspect" -l dialect -d 'Whose numbers to reproduce, where implementations differ' -r -f -a "original\t'the authors\' code (big_vision, Apple)'
open_clip\t'open_clip\'s code'
transformers\t'transformers\' code'"
complete -c clip-onnx -n "__fish_clip_onnx_using_subcommand inspect" -l weights-prefix -d 'Start of the weights\' names, where a checkpoint holds several models' -r
complete -c clip-onnx -n "__fish_clip_onnx_using_subcommand inspect" -l only -d 'One tower alone' -r -f -a "image\t''
text\t''"
complete -c clip-onnx -n "__fish_clip_onnx_using_subcommand inspect" -l adapter -d 'LoRA adapter to merge into the weights, a folder by PEFT; may be repeated' -r -f -a "(__fish_complete_directories)"
complete -c clip-onnx -n "__fish_clip_onnx_using_subcommand inspect" -l provider -d 'Of an ONNX file, list the nodes that these execution providers do not take' -r -f -a "cpu\t'ONNX Runtime\'s own kernels'
coreml\t'Apple\'s CoreML, as an ML Program'
nnapi\t'Android\'s NNAPI'
qnn\t'Qualcomm\'s HTP'
xnnpack\t'XNNPACK, on CPUs'
webgpu\t'browsers\' WebGPU'
webnn\t'browsers\' WebNN'"
complete -c clip-onnx -n "__fish_clip_onnx_using_subcommand inspect" -l tensors -d 'List tensors whose name contains TEXT; all without TEXT' -r
complete -c clip-onnx -n "__fish_clip_onnx_using_subcommand inspect" -l settings -d 'Settings file [default: clip-onnx.toml in the working folder]' -r -F
complete -c clip-onnx -n "__fish_clip_onnx_using_subcommand inspect" -l max-memory -d 'Memory that may be used, such as 4G; Linux only' -r
complete -c clip-onnx -n "__fish_clip_onnx_using_subcommand inspect" -l json -d 'Print JSON'
complete -c clip-onnx -n "__fish_clip_onnx_using_subcommand inspect" -l no-settings -d 'Ignore clip-onnx.toml'
complete -c clip-onnx -n "__fish_clip_onnx_using_subcommand inspect" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c clip-onnx -n "__fish_clip_onnx_using_subcommand inspect" -s V -l version -d 'Print version'
complete -c clip-onnx -n "__fish_clip_onnx_using_subcommand models" -l settings -d 'Settings file [default: clip-onnx.toml in the working folder]' -r -F
complete -c clip-onnx -n "__fish_clip_onnx_using_subcommand models" -l max-memory -d 'Memory that may be used, such as 4G; Linux only' -r
complete -c clip-onnx -n "__fish_clip_onnx_using_subcommand models" -l open-clip -d 'List open_clip\'s configurations instead, with the published weights of each'
complete -c clip-onnx -n "__fish_clip_onnx_using_subcommand models" -l json -d 'Print JSON: the full configuration of every model, with its dialects'
complete -c clip-onnx -n "__fish_clip_onnx_using_subcommand models" -l no-settings -d 'Ignore clip-onnx.toml'
complete -c clip-onnx -n "__fish_clip_onnx_using_subcommand models" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c clip-onnx -n "__fish_clip_onnx_using_subcommand models" -s V -l version -d 'Print version'
complete -c clip-onnx -n "__fish_clip_onnx_using_subcommand completions" -l settings -d 'Settings file [default: clip-onnx.toml in the working folder]' -r -F
complete -c clip-onnx -n "__fish_clip_onnx_using_subcommand completions" -l max-memory -d 'Memory that may be used, such as 4G; Linux only' -r
complete -c clip-onnx -n "__fish_clip_onnx_using_subcommand completions" -l no-settings -d 'Ignore clip-onnx.toml'
complete -c clip-onnx -n "__fish_clip_onnx_using_subcommand completions" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c clip-onnx -n "__fish_clip_onnx_using_subcommand completions" -s V -l version -d 'Print version'
complete -c clip-onnx -n "__fish_clip_onnx_using_subcommand man" -l out -d 'Write all pages into this folder: clip-onnx.1, clip-onnx-export.1, …' -r -f -a "(__fish_complete_directories)"
complete -c clip-onnx -n "__fish_clip_onnx_using_subcommand man" -l settings -d 'Settings file [default: clip-onnx.toml in the working folder]' -r -F
complete -c clip-onnx -n "__fish_clip_onnx_using_subcommand man" -l max-memory -d 'Memory that may be used, such as 4G; Linux only' -r
complete -c clip-onnx -n "__fish_clip_onnx_using_subcommand man" -l no-settings -d 'Ignore clip-onnx.toml'
complete -c clip-onnx -n "__fish_clip_onnx_using_subcommand man" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c clip-onnx -n "__fish_clip_onnx_using_subcommand man" -s V -l version -d 'Print version'
complete -c clip-onnx -n "__fish_clip_onnx_using_subcommand help; and not __fish_seen_subcommand_from export verify bench embed classify convert inspect models completions man help" -f -a "export" -d 'Write a checkpoint\'s towers as ONNX, and verify them'
complete -c clip-onnx -n "__fish_clip_onnx_using_subcommand help; and not __fish_seen_subcommand_from export verify bench embed classify convert inspect models completions man help" -f -a "verify" -d 'Run ONNX towers, and compare them with reference embeddings'
complete -c clip-onnx -n "__fish_clip_onnx_using_subcommand help; and not __fish_seen_subcommand_from export verify bench embed classify convert inspect models completions man help" -f -a "bench" -d 'Time ONNX towers with tract and ONNX Runtime'
complete -c clip-onnx -n "__fish_clip_onnx_using_subcommand help; and not __fish_seen_subcommand_from export verify bench embed classify convert inspect models completions man help" -f -a "embed" -d 'Embed photographs and sentences with an exported folder'
complete -c clip-onnx -n "__fish_clip_onnx_using_subcommand help; and not __fish_seen_subcommand_from export verify bench embed classify convert inspect models completions man help" -f -a "classify" -d 'Give the probabilities of labels for photographs'
complete -c clip-onnx -n "__fish_clip_onnx_using_subcommand help; and not __fish_seen_subcommand_from export verify bench embed classify convert inspect models completions man help" -f -a "convert" -d 'Write a checkpoint under open_clip\'s names, as safetensors'
complete -c clip-onnx -n "__fish_clip_onnx_using_subcommand help; and not __fish_seen_subcommand_from export verify bench embed classify convert inspect models completions man help" -f -a "inspect" -d 'Describe a checkpoint or an ONNX file'
complete -c clip-onnx -n "__fish_clip_onnx_using_subcommand help; and not __fish_seen_subcommand_from export verify bench embed classify convert inspect models completions man help" -f -a "models" -d 'List the models that are known by name'
complete -c clip-onnx -n "__fish_clip_onnx_using_subcommand help; and not __fish_seen_subcommand_from export verify bench embed classify convert inspect models completions man help" -f -a "completions" -d 'Print a completion script for a shell'
complete -c clip-onnx -n "__fish_clip_onnx_using_subcommand help; and not __fish_seen_subcommand_from export verify bench embed classify convert inspect models completions man help" -f -a "man" -d 'Print a manual page, or write all of them'
complete -c clip-onnx -n "__fish_clip_onnx_using_subcommand help; and not __fish_seen_subcommand_from export verify bench embed classify convert inspect models completions man help" -f -a "help" -d 'Print this message or the help of the given subcommand(s)'

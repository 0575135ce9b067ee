//! What `--help` says below the flags: examples, inputs and outputs, exit codes.

pub const PROGRAM: &str = "\
Examples:
  clip-onnx export ViT-B-32/ --out clip                  a folder of the hub
  clip-onnx verify clip --reference reference.npz        compare with the authors' numbers
  clip-onnx classify clip photo.jpg --labels cat,dog     use it
  clip-onnx inspect clip/vision_model.onnx               what is in a file

Settings file:
  clip-onnx.toml in the working folder sets flags that are not typed, in a table for each command:
      [export]
      target = \"onnxruntime\"
      precision = [\"fp32\", \"int8\"]

Exit codes:
  0  done
  1  done, but verification failed or something was skipped
  2  not done; one line on stderr says why";

pub const EXPORT: &str = "\
Inputs and outputs:
  vision_model.onnx   pixel_values float32 [batch_size, 3, H, W] -> image_embeds [batch_size, D]
  text_model.onnx     input_ids int64 [batch_size, L]            -> text_embeds  [batch_size, D]
  NaFlex              patches float32 [batch_size, num_patches, P*P*3], patch_mask, patch_y and
                      patch_x int64 [batch_size, num_patches]    -> image_embeds [batch_size, D]

Examples by checkpoint:
  clip-onnx export siglip2_b16_224.npz --out siglip2           big_vision (Google)
  clip-onnx export mobileclip_s2.pt --out mobileclip           Apple
  clip-onnx export ViT-B-32/ --out clip                        open_clip's folder on the hub
  clip-onnx export clip-vit-base-patch32/ --out clip           transformers' folder on the hub
  clip-onnx export model.safetensors.index.json --out clip     in shards
  clip-onnx export my.pt --config my.json --out my             a configuration of your own

Examples by aim:
  clip-onnx export clip/ --out server --profile server         ONNX Runtime on CPUs
  clip-onnx export clip/ --out phone --profile android         NNAPI and XNNPACK
  clip-onnx export clip/ --out page --profile browser          a web page
  clip-onnx export clip/ --out js --profile transformers-js    transformers.js
  clip-onnx export clip/ --out small --precision int8          a quarter of the size
  clip-onnx export clip/ --out big --image-size 384            another image size
  clip-onnx export clip/ --out image --only image              one tower alone
  clip-onnx export clip/ --out tuned --adapter my-lora/        with a LoRA adapter
  clip-onnx export clip/ --out proven --reference r.npz        compare with a reference";

pub const VERIFY: &str = "\
Examples:
  clip-onnx verify siglip --reference siglip_reference.npz
  clip-onnx verify some_vision_model.onnx --reference siglip_reference.npz --batches 1,8

Reference:
  An .npz with `image`, `image_embedding`, `image_embedding_normalized`, `tokens`, `text_embedding`,
  `text_embedding_normalized`, `logits_per_image`, `logit_scale_exp` and `logit_bias`. Arrays that
  no tower needs may be absent. scripts/make_reference.py writes one.";

pub const BENCH: &str = "\
Examples:
  clip-onnx bench siglip --batches 1,8 --threads 1,2 --ort-lib libonnxruntime.so
  clip-onnx bench clip/text_model.onnx --text-length 12 --json";

pub const EMBED: &str = "\
Examples:
  clip-onnx embed siglip --image photos --out photos.npy --ort-lib libonnxruntime.so
  clip-onnx embed mobileclip --image a.jpg b.png --text 'a red bicycle' 'two cats'
  clip-onnx embed mobileclip --texts queries.txt -o queries.safetensors";

pub const CLASSIFY: &str = "\
Examples:
  clip-onnx classify mobileclip photo.jpg --labels 'bicycle,cat,empty street'
  clip-onnx classify mobileclip photos/*.jpg --labels-file imagenet.txt --json";

pub const CONVERT: &str = "\
Examples:
  clip-onnx convert webli_en_b16_224_63724782.npz -o siglip.safetensors
  clip-onnx convert siglip2_b16_naflex.npz -o naflex_256.safetensors --image-size 256";

pub const INSPECT: &str = "\
Examples:
  clip-onnx inspect webli_en_b16_224_63724782.npz
  clip-onnx inspect webli_en_b16_224_63724782.npz --tensors MAPHead
  clip-onnx inspect siglip/vision_model.onnx --provider coreml,nnapi";

pub const COMPLETIONS: &str = "\
Examples:
  clip-onnx completions bash > ~/.local/share/bash-completion/completions/clip-onnx
  clip-onnx completions zsh  > ~/.zfunc/_clip-onnx";

pub const MAN: &str = "\
Examples:
  clip-onnx man export | man -l -
  clip-onnx man --out ~/.cargo/share/man/man1";

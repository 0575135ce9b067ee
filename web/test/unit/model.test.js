import assert from 'node:assert/strict';
import { test } from 'node:test';
import { choicesIn, tokenizerIn, towersIn } from '../../src/model/layout.js';
import { parsed } from '../../src/model/manifest.js';
import { cosine, probabilities } from '../../src/model/probabilities.js';

const files = (...paths) => paths.map((path) => ({ path, size: 1 }));

test('towers are found in every layout', () => {
  const found = (kind, ...paths) =>
    towersIn(files(...paths), kind).map((tower) => [tower.path, tower.precision, ...tower.data.map((data) => data.path)]);
  assert.deepEqual(found('image', 'text_model.onnx', 'vision_model_fp16.onnx', 'vision_model.onnx'), [
    ['vision_model_fp16.onnx', 'fp16'],
    ['vision_model.onnx', 'fp32'],
  ]);
  assert.deepEqual(found('text', 'onnx/vision_model.onnx', 'onnx/text_model_q4f16.onnx'), [['onnx/text_model_q4f16.onnx', 'int4-fp16']]);
  assert.deepEqual(found('image', 'visual.onnx', 'vision_model.onnx_data'), [['visual.onnx', 'fp32', 'vision_model.onnx_data']]);
  assert.deepEqual(
    found('text', 'textual/model_int8w.onnx', 'textual/text_model.onnx_data', 'textual/text_model_int8w.onnx_data'),
    [['textual/model_int8w.onnx', 'int8-weights', 'textual/text_model_int8w.onnx_data']],
  );
  assert.deepEqual(found('text', 'visual/model.onnx'), []);
  assert.equal(tokenizerIn(files('a/tokenizer.json.bak', 'textual/tokenizer.json')).path, 'textual/tokenizer.json');
});

test('roles in the manifest take precedence over names', () => {
  const listed = [
    { path: 'a.onnx', role: 'tower', modality: 'image', precision: 'int4-fp16', data: ['w'] },
    { path: 'w', role: 'weights' },
    { path: 'vision_model.onnx', role: 'tower', modality: 'text', precision: 'fp32' },
  ];
  assert.deepEqual(towersIn(listed, 'image'), [{ path: 'a.onnx', size: undefined, precision: 'int4-fp16', data: [listed[1]] }]);
  assert.deepEqual(towersIn(listed, 'text').map(({ path }) => path), ['vision_model.onnx']);
});

test('precisions are sorted by the size of both towers and their external data', () => {
  const tower = (modality, precision, size, ...data) =>
    ({ path: `${modality}_${precision}.onnx`, role: 'tower', modality, precision, size, data });
  const listed = [
    tower('image', 'fp32', 100), tower('image', 'int8', 5, 'w'), tower('image', 'fp16', 40),
    tower('text', 'fp32', 90), tower('text', 'int8', 5), tower('text', 'fp16', 45), tower('text', 'int4', 1),
    { path: 'w', role: 'weights', size: 80 },
  ];
  const found = (list) => choicesIn(list).map(({ precision, bytes, image, text }) => [precision, bytes, image.path, text.path]);
  assert.deepEqual(found(listed), [
    ['fp16', 85, 'image_fp16.onnx', 'text_fp16.onnx'],
    ['int8', 90, 'image_int8.onnx', 'text_int8.onnx'],
    ['fp32', 190, 'image_fp32.onnx', 'text_fp32.onnx'],
  ]);
  const unsized = listed.map(({ size, ...file }) => file);
  assert.deepEqual(found(unsized).map(([precision]) => precision), ['fp32', 'int8', 'fp16']);
  assert.equal(choicesIn(unsized)[0].bytes, undefined);
  const mixed = [tower('image', 'fp32', 9), tower('image', 'fp16', 5), tower('text', 'int8', 2)];
  assert.deepEqual(found(mixed), [['fp16, int8', 7, 'image_fp16.onnx', 'text_int8.onnx']]);
  assert.deepEqual(found(mixed.slice(0, 2)), []);
});

test('a folder without a necessary file is refused', () => {
  const manifest = {
    tool: 'clip-onnx', metadata: {}, config: { model: 'M', vision_cfg: { model_type: 'vit' } },
    files: files('vision_model.onnx', 'text_model.onnx', 'tokenizer.json'),
  };
  assert.equal(parsed(manifest).choices[0].image.path, 'vision_model.onnx');
  assert.throws(() => parsed({ ...manifest, tool: 'other' }), /not from clip-onnx/);
  assert.throws(() => parsed({ ...manifest, files: manifest.files.slice(1) }), /no image tower/);
  assert.throws(() => parsed({ ...manifest, files: manifest.files.slice(0, 2) }), (problem) => /--tokenizer/.test(problem.hint));
  const naflex = { model: 'N', vision_cfg: { model_type: 'naflexvit' } };
  assert.throws(() => parsed({ ...manifest, config: naflex }), (problem) => /--image-size/.test(problem.hint));
});

test('probabilities use the scale and the bias of the checkpoint', () => {
  const [a, b, c] = [[3, 4], [30, 40], [-4, 3]].map((row) => Float32Array.from(row));
  assert.ok(Math.abs(cosine(a, b) - 1) < 1e-12 && cosine(a, c) === 0);
  const soft = probabilities(a, [b, c], { logit_scale_exp: '100' });
  assert.ok(Math.abs(soft[0] + soft[1] - 1) < 1e-12 && soft[0] > 0.999);
  const [p, q] = probabilities(a, [b, c], { logit_scale_exp: '10', logit_bias: '-10' });
  assert.ok(Math.abs(p - 0.5) < 1e-9 && Math.abs(q - 1 / (1 + Math.exp(10))) < 1e-12);
  assert.throws(() => probabilities(a, [b], {}), /logit_scale_exp/);
});

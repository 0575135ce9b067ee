import assert from 'node:assert/strict';
import { test } from 'node:test';
import { towerIn, tokenizerIn } from '../../src/model/layout.js';
import { parsed } from '../../src/model/manifest.js';
import { cosine, probabilities } from '../../src/model/probabilities.js';

const files = (...paths) => paths.map((path) => ({ path, size: 1 }));

test('towers are found in every layout', () => {
  const found = (kind, ...paths) => {
    const tower = towerIn(files(...paths), kind);
    return tower && [tower.path, tower.precision, ...tower.data.map((data) => data.path)];
  };
  assert.deepEqual(found('image', 'text_model.onnx', 'vision_model_fp16.onnx', 'vision_model.onnx'), ['vision_model.onnx', 'fp32']);
  assert.deepEqual(found('text', 'onnx/vision_model.onnx', 'onnx/text_model_q4f16.onnx'), ['onnx/text_model_q4f16.onnx', 'q4f16']);
  assert.deepEqual(found('image', 'visual.onnx', 'vision_model.onnx_data'), ['visual.onnx', 'fp32', 'vision_model.onnx_data']);
  assert.deepEqual(
    found('text', 'textual/model_int8.onnx', 'textual/text_model.onnx_data', 'textual/text_model_int8.onnx_data'),
    ['textual/model_int8.onnx', 'int8', 'textual/text_model_int8.onnx_data'],
  );
  assert.equal(found('text', 'visual/model.onnx'), null);
  assert.equal(tokenizerIn(files('a/tokenizer.json.bak', 'textual/tokenizer.json')).path, 'textual/tokenizer.json');
});

test('a manifest that says what files are for is followed', () => {
  const listed = [
    { path: 'a.onnx', role: 'tower', modality: 'image', precision: 'int4-fp16', data: ['w'] },
    { path: 'w', role: 'weights' },
    { path: 'vision_model.onnx', role: 'tower', modality: 'text', precision: 'fp32' },
  ];
  assert.deepEqual(towerIn(listed, 'image'), { path: 'a.onnx', size: undefined, precision: 'int4-fp16', data: [listed[1]] });
  assert.equal(towerIn(listed, 'text').path, 'vision_model.onnx');
});

test('what a folder lacks is told', () => {
  const manifest = {
    tool: 'clip-onnx', metadata: {}, config: { model: 'M', vision_cfg: { model_type: 'vit' } },
    files: files('vision_model.onnx', 'text_model.onnx', 'tokenizer.json'),
  };
  assert.equal(parsed(manifest).image.path, 'vision_model.onnx');
  assert.throws(() => parsed({ ...manifest, tool: 'other' }), /not one of/);
  assert.throws(() => parsed({ ...manifest, files: manifest.files.slice(1) }), /no image tower/);
  assert.throws(() => parsed({ ...manifest, files: manifest.files.slice(0, 2) }), (problem) => /--tokenizer/.test(problem.hint));
  const naflex = { model: 'N', vision_cfg: { model_type: 'naflexvit' } };
  assert.throws(() => parsed({ ...manifest, config: naflex }), (problem) => /--image-size/.test(problem.hint));
});

test('probabilities are of the checkpoint\'s scale and bias', () => {
  const [a, b, c] = [[3, 4], [30, 40], [-4, 3]].map((row) => Float32Array.from(row));
  assert.ok(Math.abs(cosine(a, b) - 1) < 1e-12 && cosine(a, c) === 0);
  const soft = probabilities(a, [b, c], { logit_scale_exp: '100' });
  assert.ok(Math.abs(soft[0] + soft[1] - 1) < 1e-12 && soft[0] > 0.999);
  const [p, q] = probabilities(a, [b, c], { logit_scale_exp: '10', logit_bias: '-10' });
  assert.ok(Math.abs(p - 0.5) < 1e-9 && Math.abs(q - 1 / (1 + Math.exp(10))) < 1e-12);
  assert.throws(() => probabilities(a, [b], {}), /logit_scale_exp/);
});

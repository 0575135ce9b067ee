import assert from 'node:assert/strict';
import { test } from 'node:test';
import { labelsOf, sentencesOf } from '../../src/text/labels.js';
import { cleaned, wayOf } from '../../src/text/clean.js';

test('labels are lines without duplicates', () => {
  assert.deepEqual(labelsOf(' cat \r\n\n dog\ncat\n'), ['cat', 'dog']);
  assert.throws(() => labelsOf(' \n'), /no labels/);
});

test('a template must contain {}', () => {
  assert.deepEqual(sentencesOf(['a$&b'], '{} or {}'), ['a$&b or a$&b']);
  assert.throws(() => sentencesOf(['a'], 'photo'), /no \{\}/);
});

test('sentences are cleaned by the rules of each family and dialect', () => {
  const text = '  A_photo,\tof &amp;lt;b&amp;gt; \u201cZo\u00eb\u2019s\u201d  \ufb01sh! ';
  const as = (family, dialect) => cleaned(text, { family, dialect });
  assert.equal(as('clip', 'open_clip'), 'a_photo, of <b> "zo\u00eb\'s" fish!');
  assert.equal(as('mobileclip', 'original'), 'a_photo, of <b> "zo\u00eb\'s" fish!');
  assert.equal(as('siglip', 'open_clip'), 'a photo of b zo\u00ebs fish');
  assert.equal(as('siglip2', 'transformers'), text.toLowerCase());
  assert.equal(as('siglip', 'original'), text);
  assert.equal(as('clip', 'transformers'), text);
  assert.equal(cleaned('A_photo,  of it!', { family: 'siglip', dialect: 'transformers' }), 'aphoto of it');
  assert.equal(wayOf({ family: 'siglip2', dialect: 'open_clip' }), 'canonical');
});

test('entities, quotes, ligatures, widths and controls are repaired as by ftfy', () => {
  const mended = (text) => cleaned(text, { family: 'clip', dialect: 'open_clip' });
  assert.equal(mended('\uff21\uff22\uff23\u3000\uff76\uff9e \u01c4 \u0149 \ufb05 &hearts;'), "abc \u30ab\u3099 d\u017e 'n \u017ft \u2665".normalize('NFC'));
  assert.equal(mended('a\x01\x7fb \x1b[31mred\x1b[0m \u206a'), 'ab red');
  assert.equal(mended('&ldquo;x&rdquo; <b> &lt; &copy b'), '\u201cx\u201d <b> < \u00a9 b', 'ftfy does not decode entities beside tags');
});

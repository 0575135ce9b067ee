// Reads pixels with alpha through WebGL. A 2D canvas stores colours multiplied by alpha, which loses the colours of nearly
// transparent pixels. A texture keeps the bytes.

/**
 * @param {ImageBitmap} bitmap Not multiplied by alpha.
 * @returns {Uint8Array | null} Null without WebGL, or where the picture is too large for it.
 */
export function rawPixels(bitmap) {
  const { width, height } = bitmap;
  const gl = new OffscreenCanvas(1, 1).getContext('webgl', { antialias: false, depth: false });
  if (!gl || Math.max(width, height) > gl.getParameter(gl.MAX_TEXTURE_SIZE)) return null;
  gl.pixelStorei(gl.UNPACK_PREMULTIPLY_ALPHA_WEBGL, false);
  gl.pixelStorei(gl.UNPACK_COLORSPACE_CONVERSION_WEBGL, gl.NONE);
  gl.bindTexture(gl.TEXTURE_2D, gl.createTexture());
  gl.texImage2D(gl.TEXTURE_2D, 0, gl.RGBA, gl.RGBA, gl.UNSIGNED_BYTE, bitmap);
  gl.bindFramebuffer(gl.FRAMEBUFFER, gl.createFramebuffer());
  gl.framebufferTexture2D(gl.FRAMEBUFFER, gl.COLOR_ATTACHMENT0, gl.TEXTURE_2D, gl.getParameter(gl.TEXTURE_BINDING_2D), 0);
  const values = new Uint8Array(width * height * 4);
  if (gl.checkFramebufferStatus(gl.FRAMEBUFFER) === gl.FRAMEBUFFER_COMPLETE) {
    gl.readPixels(0, 0, width, height, gl.RGBA, gl.UNSIGNED_BYTE, values);
  }
  const failed = gl.getError() !== gl.NO_ERROR || !values.some(Boolean);
  gl.getExtension('WEBGL_lose_context')?.loseContext();
  return failed ? null : values;
}

// An error that the page shows to the visitor.

export class Problem extends Error {
  /**
   * @param {string} message One sentence: what is wrong.
   * @param {string} [hint] How to solve it.
   */
  constructor(message, hint = '') {
    super(message);
    this.name = 'Problem';
    this.hint = hint;
  }
}

// What a visitor is told when something cannot be done: what is wrong, and what to do about it.

export class Problem extends Error {
  /**
   * @param {string} message One sentence: what is wrong.
   * @param {string} [hint] What can be done about it.
   */
  constructor(message, hint = '') {
    super(message);
    this.name = 'Problem';
    this.hint = hint;
  }
}

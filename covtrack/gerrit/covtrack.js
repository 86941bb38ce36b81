/**
 * covtrack in Gerrit's pages: covered and uncovered lines in the diff, a check with progress,
 * results and a rerun. Shows what covtrack says; decides nothing itself.
 *
 * Checked by tsc against @gerritcodereview/typescript-api; what is checked is what ships.
 */
(() => {
  'use strict';

  /**
   * @typedef {import('@gerritcodereview/typescript-api/annotation').CoverageProvider} Provider
   * @typedef {import('@gerritcodereview/typescript-api/checks').Action} Action
   * @typedef {import('@gerritcodereview/typescript-api/checks').ActionResult} ActionResult
   * @typedef {import('@gerritcodereview/typescript-api/checks').Category} Category
   * @typedef {import('@gerritcodereview/typescript-api/checks').ChangeData} ChangeData
   * @typedef {import('@gerritcodereview/typescript-api/checks').CheckResult} CheckResult
   * @typedef {import('@gerritcodereview/typescript-api/checks').CheckRun} CheckRun
   * @typedef {import('@gerritcodereview/typescript-api/checks').FetchResponse} FetchResponse
   * @typedef {import('@gerritcodereview/typescript-api/checks').ResponseCode} ResponseCode
   * @typedef {import('@gerritcodereview/typescript-api/checks').RunStatus} RunStatus
   * @typedef {import('@gerritcodereview/typescript-api/diff').CoverageRange} CoverageRange
   * @typedef {import('@gerritcodereview/typescript-api/diff').CoverageType} CoverageType
   * @typedef {import('@gerritcodereview/typescript-api/diff').Side} Side
   * @typedef {import('@gerritcodereview/typescript-api/checks').LinkIcon} LinkIcon
   * @typedef {import('@gerritcodereview/typescript-api/gerrit').Gerrit} Gerrit
   *
   * @typedef {{line: number, count: number}} Line
   * @typedef {{data: {files: {path: string, lines: Line[]}[]}}} Lines
   *
   * @typedef {object} Result
   * @property {`${Category}`} category
   * @property {string} summary
   * @property {string} message
   * @property {string} [path]
   * @property {number} [first]
   * @property {number} [last]
   *
   * @typedef {object} Check
   * @property {string} name
   * @property {`${RunStatus}`} status
   * @property {string} description
   * @property {number | null} attempt
   * @property {number | null} job_id
   * @property {string | null} link
   * @property {string | null} label
   * @property {string | null} scheduled_at
   * @property {string | null} started_at
   * @property {string | null} ended_at
   * @property {boolean} may_rerun
   * @property {Result[]} results
   *
   * @typedef {{repo: string, change: number, patchset: number}} PatchSet
   */

  // Where covtrack is; filled in when this file is taken from it.
  const ADDRESS = "";
  const POLL_SECONDS = 20;
  const KEEP_MILLISECONDS = 20000;

  /**
   * Gerrit's enums are plain strings when it runs; these check that a string is one of them.
   *
   * @param {`${Category}`} value
   */
  const asCategory = value => /** @type {Category} */ (value);
  /** @param {`${ResponseCode}`} value */
  const asCode = value => /** @type {ResponseCode} */ (value);
  /** @param {`${LinkIcon}`} value */
  const asIcon = value => /** @type {LinkIcon} */ (value);
  /** @param {`${RunStatus}`} value */
  const asStatus = value => /** @type {RunStatus} */ (value);
  /** @param {`${CoverageType}`} value */
  const asType = value => /** @type {CoverageType} */ (value);
  /** @param {`${Side}`} value */
  const asSide = value => /** @type {Side} */ (value);

  /**
   * @param {string} path
   * @param {PatchSet} patchSet
   * @param {Record<string, string>} [more]
   */
  function addressOf(path, patchSet, more) {
    const query = new URLSearchParams({
      host: window.location.host,
      project: patchSet.repo,
      change: String(patchSet.change),
      patchset: String(patchSet.patchset),
      ...more,
    });
    return `${ADDRESS}${path}?${query}`;
  }

  /**
   * What covtrack answers; undefined for what it does not know. Throws what else went wrong.
   *
   * @param {string} url
   * @param {RequestInit} [options]
   * @return {Promise<any>}
   */
  async function ask(url, options) {
    const answer = await fetch(url, {credentials: 'omit', ...options});
    if (answer.status === 404) return undefined;
    const body = await answer.json();
    if (!answer.ok) throw new Error(String(body.error));
    return body;
  }

  /**
   * Lines that follow each other and are alike, as ranges.
   *
   * @param {Line[]} lines in order
   * @return {CoverageRange[]}
   */
  function toRanges(lines) {
    /** @type {CoverageRange[]} */
    const ranges = [];
    for (const {line, count} of lines) {
      const type = asType(count > 0 ? 'COVERED' : 'NOT_COVERED');
      const last = ranges[ranges.length - 1];
      if (last && last.type === type && last.code_range.end_line === line - 1) {
        last.code_range.end_line = line;
      } else {
        const code_range = {start_line: line, end_line: line};
        ranges.push({type, side: asSide('right'), code_range});
      }
    }
    return ranges;
  }

  /** The repositories of changes, and the lines of the patch set that was asked about last. */
  class Memory {
    constructor() {
      /** @type {Map<number, string>} */
      this.repos = new Map();
      /** @type {Set<string>} repositories that covtrack has answered about */
      this.measured = new Set();
      /** @type {{url: string, at: number, lines: Promise<Lines | undefined>} | undefined} */
      this.asked = undefined;
    }

    /**
     * @param {PatchSet} patchSet
     * @return {Promise<Lines | undefined>}
     */
    lines(patchSet) {
      const more = {type: 'lines', format: 'json', concise: '1'};
      const url = addressOf('/coverage/api/coverage-data', patchSet, more);
      const now = Date.now();
      if (!this.asked || this.asked.url !== url || now - this.asked.at > KEEP_MILLISECONDS) {
        this.asked = {url, at: now, lines: ask(url)};
      }
      return this.asked.lines;
    }
  }

  /**
   * @param {Memory} memory
   * @return {Provider}
   */
  function provideCoverage(memory) {
    return async (changeNum, path, _base, patchNum, change) => {
      const repo = change?.project ?? memory.repos.get(changeNum);
      if (!repo || typeof patchNum !== 'number') return undefined;
      try {
        const found = await memory.lines({repo, change: changeNum, patchset: patchNum});
        const file = found?.data.files.find(one => one.path === path);
        return file && toRanges(file.lines);
      } catch (error) {
        console.info(`covtrack at ${ADDRESS} tells no lines:`, error);
        return undefined;
      }
    };
  }

  /**
   * @param {PatchSet} patchSet
   * @return {Promise<ActionResult>}
   */
  async function rerun(patchSet) {
    const headers = {'X-Covtrack': 'rerun'};
    try {
      const said = await ask(addressOf('/api/rerun', patchSet), {method: 'POST', headers});
      const words = said?.message ?? 'It does not know this change.';
      return {message: `covtrack: ${words}`, shouldReload: true};
    } catch (error) {
      const words = error instanceof Error ? error.message : String(error);
      return {message: `covtrack: ${words}`, errorMessage: words};
    }
  }

  /**
   * @param {Result} result
   * @param {string | null} link
   * @return {CheckResult}
   */
  function toResult(result, link) {
    const {category, summary, message, path, first, last} = result;
    /** @type {CheckResult} */
    const shown = {category: asCategory(category), summary, message};
    if (path !== undefined && first !== undefined && last !== undefined) {
      const range = {start_line: first, start_character: 0, end_line: last, end_character: 0};
      shown.codePointers = [{path, range}];
    } else if (link) {
      shown.links = [{url: link, tooltip: 'The job', primary: true, icon: asIcon('external')}];
    }
    return shown;
  }

  /**
   * @param {Check} check
   * @param {PatchSet} patchSet
   * @return {CheckRun}
   */
  function toRun(check, patchSet) {
    /** @param {string | null} text */
    const when = text => (text ? new Date(text) : undefined);
    const name = check.status === 'RUNNABLE' ? 'Run' : 'Rerun';
    const tooltip = 'Measure this patch set, as the comment "recheck coverage" does';
    /** @type {Action} */
    const action = {name, tooltip, primary: true, callback: () => rerun(patchSet)};
    return {
      change: patchSet.change,
      patchset: patchSet.patchset,
      attempt: check.attempt ?? undefined,
      externalId: check.job_id === null ? undefined : String(check.job_id),
      checkName: check.name,
      checkDescription: 'Test coverage of the patch and of the project',
      status: asStatus(check.status),
      statusDescription: check.description,
      statusLink: check.link ?? undefined,
      labelName: check.label ?? undefined,
      scheduledTimestamp: when(check.scheduled_at),
      startedTimestamp: when(check.started_at),
      finishedTimestamp: when(check.ended_at),
      actions: check.may_rerun ? [action] : [],
      results: check.results.map(result => toResult(result, check.link)),
    };
  }

  /**
   * The checks of a patch set; none, and no complaint, for a repository that covtrack never
   * answered about: it may not be meant to know it.
   *
   * @param {Memory} memory
   * @param {ChangeData} data
   * @return {Promise<FetchResponse>}
   */
  async function fetchChecks(memory, data) {
    const {repo, changeNumber: change, patchsetNumber: patchset} = data;
    const patchSet = {repo, change, patchset};
    memory.repos.set(change, repo);
    try {
      const found = await ask(addressOf('/api/patch-set', patchSet));
      if (!found) return {responseCode: asCode('OK'), runs: []};
      memory.measured.add(repo);
      /** @type {Check[]} */
      const checks = found.checks;
      return {responseCode: asCode('OK'), runs: checks.map(check => toRun(check, patchSet))};
    } catch (error) {
      console.info(`covtrack at ${ADDRESS} tells no checks:`, error);
      if (!memory.measured.has(repo)) return {responseCode: asCode('OK'), runs: []};
      return {responseCode: asCode('ERROR'), errorMessage: `covtrack: ${error}`};
    }
  }

  /** @type {Gerrit} */
  const gerrit = window.Gerrit;
  gerrit.install(plugin => {
    const memory = new Memory();
    plugin.annotationApi().setCoverageProvider(provideCoverage(memory));
    plugin.checks().register(
      {fetch: data => fetchChecks(memory, data)},
      {fetchPollingIntervalSeconds: POLL_SECONDS}
    );
  });
})();

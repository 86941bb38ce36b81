/**
 * Plays the part of Gerrit's web interface that the plugin uses: loads the plugins that the server
 * names, asks them for coverage and checks, and shows what they say.
 *
 * Checked by tsc against @gerritcodereview/typescript-api, as the plugin is.
 */
(() => {
  'use strict';

  /**
   * @typedef {import('@gerritcodereview/typescript-api/annotation').AnnotationPluginApi} Annotation
   * @typedef {import('@gerritcodereview/typescript-api/annotation').CoverageProvider} Provider
   * @typedef {import('@gerritcodereview/typescript-api/checks').ChangeData} ChangeData
   * @typedef {import('@gerritcodereview/typescript-api/checks').CheckRun} CheckRun
   * @typedef {import('@gerritcodereview/typescript-api/checks').ChecksPluginApi} ChecksApi
   * @typedef {import('@gerritcodereview/typescript-api/checks').ChecksProvider} ChecksProvider
   * @typedef {import('@gerritcodereview/typescript-api/gerrit').Gerrit} Gerrit
   * @typedef {import('@gerritcodereview/typescript-api/plugin').PluginApi} PluginApi
   * @typedef {import('@gerritcodereview/typescript-api/rest-api').ChangeInfo} ChangeInfo
   */

  /** @type {Provider | undefined} */
  let coverage;
  /** @type {ChecksProvider | undefined} */
  let checks;
  let pollSeconds = 60;
  /** @type {CheckRun[]} */
  let runs = [];

  /** @type {Annotation} */
  const annotation = {
    setCoverageProvider: provider => {
      coverage = provider;
    },
    addTokenHoverListener: () => {},
  };
  /** @type {ChecksApi} */
  const checksApi = {
    register: (provider, config) => {
      if (checks) throw new Error('A plugin registers once.');
      checks = provider;
      pollSeconds = config?.fetchPollingIntervalSeconds ?? 60;
    },
    announceUpdate: () => {},
    updateResult: () => {},
  };
  /** @type {Pick<PluginApi, 'annotationApi' | 'checks'>} */
  const plugin = {annotationApi: () => annotation, checks: () => checksApi};
  /** @type {Pick<Gerrit, 'install'>} */
  const gerrit = {install: callback => callback(/** @type {PluginApi} */ (plugin))};
  window.Gerrit = /** @type {Gerrit} */ (gerrit);

  /**
   * What Gerrit's REST interface answers on a path.
   *
   * @param {string} path
   * @return {Promise<any>}
   */
  async function read(path) {
    const answer = await fetch(path);
    return JSON.parse((await answer.text()).replace(")]}'", ''));
  }

  /** @param {string} path */
  function load(path) {
    return new Promise((done, failed) => {
      const script = document.createElement('script');
      script.src = `/${path}`;
      script.onload = done;
      script.onerror = failed;
      document.head.append(script);
    });
  }

  /**
   * @param {Element | null} parent
   * @param {string} tag
   * @param {string} text
   * @param {string} [style]
   */
  function add(parent, tag, text, style) {
    const element = document.createElement(tag);
    element.textContent = text;
    if (style) element.className = style;
    parent?.append(element);
    return element;
  }

  /** Load what the server says is installed, as Gerrit's own page does. */
  const ready = (async () => {
    const info = await read('/config/server/info');
    await Promise.all(info.plugin.js_resource_paths.map(load));
  })();

  /**
   * The lines of a file with the ranges that the plugin gives.
   *
   * @param {ChangeInfo} change
   * @param {number} patchset
   * @param {string} path
   */
  async function showFile(change, patchset, path) {
    await ready;
    const ranges = await coverage?.(change._number, path, undefined, patchset, change);
    const place = `/changes/${change._number}/revisions/${patchset}/files`;
    const text = atob(await (await fetch(`${place}/${encodeURIComponent(path)}/content`)).text());
    const diff = document.querySelector('#diff');
    diff?.replaceChildren();
    document.querySelector('#path')?.replaceChildren(path);
    text.trimEnd().split('\n').forEach((words, index) => {
      const line = index + 1;
      const range = ranges?.find(
        one => one.code_range.start_line <= line && line <= one.code_range.end_line
      );
      add(diff, 'span', `${String(line).padStart(3)}  ${words}`, `line ${range?.type ?? ''}`);
    });
    return ranges;
  }

  /** @param {ChangeData} data */
  async function showChecks(data) {
    await ready;
    const response = await checks?.fetch(data);
    runs = response?.runs ?? [];
    const place = document.querySelector('#checks');
    place?.replaceChildren();
    for (const run of runs) {
      const shown = add(place, 'div', '', 'run');
      const attempt = run.attempt === undefined ? '' : ` attempt ${run.attempt}`;
      add(shown, 'b', `${run.checkName}${attempt}: ${run.status} `);
      add(shown, 'span', `${run.statusDescription ?? ''} `);
      for (const action of run.actions ?? []) add(shown, 'button', action.name);
      for (const result of run.results ?? []) {
        const box = add(shown, 'div', '', 'result');
        add(box, 'span', result.category, 'category');
        add(box, 'span', ` ${result.summary}\n${result.message ?? ''}`);
      }
    }
    return response;
  }

  /**
   * Press the button of that name, as a user would; what the toast says then.
   *
   * @param {string} name
   */
  async function press(name) {
    for (const run of runs) {
      const action = run.actions?.find(one => one.name === name);
      if (!action || !run.change || !run.patchset) continue;
      const told = await action.callback(
        run.change, run.patchset, run.attempt, run.externalId, run.checkName, action.name
      );
      const toast = document.querySelector('#toast');
      if (toast) toast.textContent = told?.message ?? '';
      return told;
    }
    throw new Error(`There is no button ${name}.`);
  }

  Object.assign(window, {page: {showFile, showChecks, press, read, poll: () => pollSeconds}});
})();

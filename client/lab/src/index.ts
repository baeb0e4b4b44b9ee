/** JupyterLab's part of a Mudeung server's session: the status bar's item, its panel, and the warnings. */

import type { JupyterFrontEnd, JupyterFrontEndPlugin } from '@jupyterlab/application';
import { ICommandPalette } from '@jupyterlab/apputils';
import { PageConfig, URLExt } from '@jupyterlab/coreutils';
import { IStatusBar, showPopup, type Popup } from '@jupyterlab/statusbar';
import { ITranslator } from '@jupyterlab/translation';
import { Signal } from '@lumino/signaling';

import { Item } from './item';
import { Panel } from './panel';
import { Session } from './session';
import { Warnings } from './warnings';
import { say } from './words';

const SHOW = 'mudeung-session:show';
const EXTEND = 'mudeung-session:extend';
const SAVE_ALL = 'docmanager:save-all';

const plugin: JupyterFrontEndPlugin<void> = {
  id: 'mudeung-session:plugin',
  description: 'Time left, budget and device of this server.',
  autoStart: true,
  optional: [IStatusBar, ITranslator, ICommandPalette],
  activate: (
    app: JupyterFrontEnd,
    statusBar: IStatusBar | null,
    translator: ITranslator | null,
    palette: ICommandPalette | null
  ): void => {
    const session = new Session(app.serviceManager.serverSettings, () => translator?.languageCode ?? 'en');
    const warnings = new Warnings(session, () => app.commands.execute(SAVE_ALL));
    const item = new Item(session);
    let popup: Popup | null = null;

    const show = (): void => {
      if (popup !== null && !popup.isDisposed) {
        popup.dispose();
        return;
      }
      void session.refresh();
      const panel = new Panel(session, () => warnings.extend(), portalUrl());
      popup = showPopup({ body: panel, anchor: item, align: 'right', hasDynamicSize: true });
      item.button.setAttribute('aria-expanded', 'true');
      popup.disposed.connect(() => {
        item.button.setAttribute('aria-expanded', 'false');
        const focused = document.activeElement;
        if (focused === null || focused === document.body || panel.node.contains(focused)) {
          item.button.focus();
        }
      });
      panel.node.focus();
    };

    item.button.addEventListener('click', show);
    app.commands.addCommand(SHOW, { label: () => say(session.language, 'commandShow'), execute: show });
    app.commands.addCommand(EXTEND, {
      label: () => say(session.language, 'commandExtend'),
      execute: () => warnings.extend()
    });
    for (const command of [SHOW, EXTEND]) {
      palette?.addItem({ command, category: say(session.language, 'category') });
    }
    const activeStateChanged = new Signal<Item, void>(item);
    session.changed.connect(() => activeStateChanged.emit());
    statusBar?.registerStatusItem(plugin.id, {
      item,
      align: 'right',
      rank: 1000,
      isActive: () => session.state !== 'off' && session.state !== 'unknown',
      activeStateChanged
    });
  }
};

/** Return the portal's address: beside the hub that started this server. */
function portalUrl(): string {
  const hub = PageConfig.getOption('hubPrefix') || '/hub/';
  return URLExt.join(PageConfig.getOption('hubHost'), hub.replace(/hub\/?$/, ''), 'services/portal/');
}

export default plugin;

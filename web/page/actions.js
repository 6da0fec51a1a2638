// Operator actions: a button at each endpoint, and the dialog that it opens. They are there
// only where the operator has turned them on.

import { act, offers } from './data.js';
import { h, setText, show } from './dom.js';
import { t } from './words.js';

// undoable reports whether there is anything to undo.
const undoable = (e) => Boolean(e.operator || e.override?.weight || e.override?.priority);

// choicesOf returns the actions for an endpoint: the action and the fields of the API.
const kinds = {
  drain: { action: 'drain', lasts: true },
  out: { action: 'trip', lasts: true },
  in: { action: 'enable', lasts: true, end: true },
  weight: { action: 'set', field: 'weight', lasts: true },
  priority: { action: 'set', field: 'priority', lasts: true },
  undo: { action: 'undo' },
};

const durations = ['', '10m', '1h', '8h', '24h'];

let dialog = null;

// ActionsButton opens the dialog for an endpoint.
export class ActionsButton {
  constructor(pool) {
    this.pool = pool;
    this.node = h('button', { type: 'button', class: 'act', 'aria-haspopup': 'dialog', onclick: () => open(this.pool, this.endpoint, this.node) }, t('actions'));
    show(this.node, false);
  }

  update(endpoint) {
    this.endpoint = endpoint;
    show(this.node, offers.levers);
    if (this.named === endpoint.name) return;
    this.named = endpoint.name;
    this.node.setAttribute('aria-label', t('actions.of', { endpoint: endpoint.name }));
  }
}

// open asks which action an operator wants, and why.
function open(pool, endpoint, opener) {
  dialog?.remove();
  const radio = (kind, i) => h('label', { class: 'choice' },
    h('input', { type: 'radio', name: 'kind', value: kind, required: true, checked: i === 0, onchange: () => choose(kind) }),
    h('span', null, h('b', null, t(`act.${kind}`)), ' ', h('span', { class: 'hint' }, t(`act.${kind}.hint`))));
  const offered = Object.keys(kinds).filter((kind) => kind !== 'undo' || undoable(endpoint));
  const value = h('input', { id: 'act-value', name: 'value', type: 'number', step: 'any', min: '0' });
  const valueLabel = h('label', { for: 'act-value' });
  const valueRow = h('p', { class: 'row' }, valueLabel, value);
  const lasts = h('select', { id: 'act-for', name: 'for' }, ...durations.map((d) => h('option', { value: d }, t(`for.${d || 'ever'}`))));
  const lastsRow = h('p', { class: 'row' }, h('label', { for: 'act-for' }, t('act.for')), lasts);
  const why = h('textarea', { id: 'act-why', name: 'reason', rows: '2', maxlength: '200', required: true, 'aria-describedby': 'act-why-hint' });
  const failed = h('p', { class: 'failed', role: 'alert' });
  const submit = h('button', { type: 'submit', class: 'primary' }, t('act.do'));
  let kind = offered[0];
  const choose = (chosen) => {
    kind = chosen;
    const { field, lasts: timed, end } = kinds[kind];
    show(valueRow, Boolean(field));
    value.required = Boolean(field);
    if (field) {
      value.step = field === 'weight' ? 'any' : '1';
      value.min = field === 'weight' ? '0' : '1';
      value.value = String(endpoint[field]);
      setText(valueLabel, t(`act.${field}`));
    }
    show(lastsRow, Boolean(timed));
    lasts.firstChild.disabled = Boolean(end); // forcing in always ends
    if (end && !lasts.value) lasts.value = '1h';
  };
  const form = h('form', {
    method: 'dialog', onsubmit: async (event) => {
      event.preventDefault();
      const { action, field, lasts: timed } = kinds[kind];
      const fields = { reason: why.value.trim() };
      if (!fields.reason) {
        setText(failed, t('act.why.missing'));
        why.focus();
        return;
      }
      if (field) fields[field] = Number(value.value);
      if (timed && lasts.value) fields.for = lasts.value;
      submit.disabled = true;
      const problem = await act({ pool, endpoint: endpoint.name, action, fields });
      submit.disabled = false;
      setText(failed, problem && t('act.failed', { problem }));
      if (!problem) dialog.close();
    },
  },
  h('h2', { id: 'act-title' }, t('act.title', { endpoint: endpoint.name })),
  h('p', { class: 'hint' }, t('act.pool', { pool })),
  h('fieldset', null, h('legend', null, t('act.what')), ...offered.map(radio)),
  valueRow, lastsRow,
  h('p', { class: 'row tall' }, h('label', { for: 'act-why' }, t('act.why')), why),
  h('p', { class: 'hint', id: 'act-why-hint' }, t('act.why.hint')),
  failed,
  h('p', { class: 'buttons' }, h('button', { type: 'button', onclick: () => dialog.close() }, t('act.cancel')), submit));
  dialog = h('dialog', { 'aria-labelledby': 'act-title', onclose: () => { dialog.remove(); opener.focus(); } }, form);
  document.body.append(dialog);
  choose(kind);
  dialog.showModal();
  form.querySelector('input').focus();
}

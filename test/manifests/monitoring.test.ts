import { spawnSync } from 'node:child_process'
import { cpSync, readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import t, { type Test } from 'tap'
import { parse, stringify } from 'yaml'
import { createMetrics } from '../../src/metrics.js'
import { MANIFESTS } from './render.js'

/** Labels Prometheus adds to what it scrapes. */
const TARGET_LABELS = ['instance', 'job', 'namespace', 'pod']

interface Rule {
  readonly alert?: string
  readonly record?: string
  readonly expr: string
  readonly labels?: Readonly<Record<string, string>>
  readonly annotations?: Readonly<Record<string, string>>
}
interface Panel {
  readonly id: number
  readonly type: string
  readonly title: string
  readonly gridPos: { readonly h: number; readonly w: number; readonly x: number; readonly y: number }
  readonly targets?: readonly { readonly expr: string; readonly legendFormat: string }[]
}

const read = (file: string) => readFileSync(join(MANIFESTS, 'components/monitoring', file), 'utf8')
const groups = parse(read('prometheusrule.yaml')).spec.groups as readonly { readonly rules: readonly Rule[] }[]
const rules = groups.flatMap((group) => group.rules)
const dashboard = JSON.parse(read('dashboard.json')) as { readonly panels: readonly Panel[] }
const expressions: readonly (readonly [string, string])[] = [
  ...rules.map(({ alert, record, expr }) => [`rule ${alert ?? record}`, expr] as const),
  ...dashboard.panels.flatMap(({ title, targets = [] }) =>
    targets.map(({ expr }) => [`panel ${title}`, expr] as const),
  ),
]

/** Every series there can be, with its labels. */
async function existing(): Promise<Map<string, readonly string[]>> {
  const { registry } = createMetrics({ version: 'test', runtime: true })
  const series = new Map<string, readonly string[]>()
  for (const { name, type } of await registry.getMetricsAsJSON()) {
    const { labelNames } = registry.getSingleMetric(name) as unknown as { labelNames: readonly string[] }
    if (String(type) !== 'histogram') series.set(name, labelNames)
    else {
      series.set(`${name}_bucket`, [...labelNames, 'le'])
      for (const suffix of ['_sum', '_count']) series.set(`${name}${suffix}`, labelNames)
    }
  }
  return series
}

t.test('alerts and dashboard use metrics and labels that exist', async (t) => {
  const known = await existing()
  for (const [where, expr] of expressions) {
    const names = [...expr.matchAll(/(?<![a-z_:])((?:storage_operator|process|nodejs)_[a-z0-9_]+)(?:\{([^}]*)\})?/g)]
    t.ok(names.length > 0 || expr.includes('storage_operator:'), where)
    const labels = new Set<string>(TARGET_LABELS)
    for (const [, name = '', matchers = ''] of names) {
      t.ok(known.has(name), `${where}: ${name}`)
      for (const label of known.get(name) ?? []) labels.add(label)
      for (const [, label = ''] of matchers.matchAll(/([a-z_]+)\s*(?:=~|!~|!=|=)/g)) {
        t.ok(known.get(name)?.includes(label), `${where}: ${name}{${label}}`)
      }
    }
    for (const [, list = ''] of expr.matchAll(/\b(?:by|on)\s*\(([^)]*)\)/g)) {
      for (const label of list.split(',').filter(Boolean)) {
        t.ok(labels.has(label.trim()), `${where}: by ${label.trim()}`)
      }
    }
  }
})

t.test('every metric of the operator is shown or alerted on', async (t) => {
  const shown = expressions.map(([, expr]) => expr).join('\n')
  for (const { name } of await createMetrics({ version: 'test' }).registry.getMetricsAsJSON()) {
    t.ok(new RegExp(`\\b${name}(_bucket|_count)?\\b`).test(shown), name)
  }
})

t.test('every alert says what it means and how urgent it is', async (t) => {
  const alerts = rules.filter(({ alert }) => alert !== undefined)
  t.equal(new Set(alerts.map(({ alert }) => alert)).size, alerts.length)
  for (const { alert, labels, annotations } of alerts) {
    t.match(alert, /^StorageOperator[A-Za-z]+$/)
    t.match(labels?.['severity'], /^(critical|warning)$/)
    for (const text of ['summary', 'description']) t.match(annotations?.[text], /^[^\n]+\.$/, `${alert}: ${text}`)
    for (const [, page = ''] of annotations?.['description']?.matchAll(/docs\/([a-z]+\.md)/g) ?? []) {
      t.doesNotThrow(() => readFileSync(join(process.cwd(), 'docs', page)), page)
    }
  }
})

t.test('panels have names of their own and do not overlap', async (t) => {
  const { panels } = dashboard
  t.equal(new Set(panels.map(({ id }) => id)).size, panels.length)
  t.equal(new Set(panels.map(({ title }) => title)).size, panels.length)
  const overlaps = panels.flatMap(({ title, gridPos: a }, index) =>
    panels
      .slice(index + 1)
      .filter(({ gridPos: b }) => a.x < b.x + b.w && b.x < a.x + a.w && a.y < b.y + b.h && b.y < a.y + a.h)
      .map((other) => `${title} and ${other.title}`),
  )
  t.strictSame(overlaps, [])
  for (const { title, gridPos } of panels) t.ok(gridPos.x + gridPos.w <= 24, title)
})

const noPromtool = spawnSync('promtool', ['--version']).status === 0 ? false : 'promtool is not installed'

t.test('promtool', { skip: noPromtool }, async (t) => {
  const folder = t.testdir()
  writeFileSync(join(folder, 'rules.yaml'), stringify({ groups }))
  const bare = groups.map((group) => ({ ...group, rules: group.rules.map(({ annotations: _, ...rule }) => rule) }))
  writeFileSync(join(folder, 'bare.yaml'), stringify({ groups: bare }))
  cpSync(join(process.cwd(), 'test/manifests/alerts.promtool.yaml'), join(folder, 'alerts.yaml'))
  const promtool = (t: Test, ...args: readonly string[]) => {
    const { status, stdout, stderr } = spawnSync('promtool', args, { cwd: folder, encoding: 'utf8' })
    t.equal(status, 0, `promtool ${args.join(' ')}: ${stdout}${stderr}`)
  }
  promtool(t, 'check', 'rules', 'rules.yaml')
  promtool(t, 'test', 'rules', 'alerts.yaml')

  t.test('every alert is tried', async (t) => {
    const tried = parse(readFileSync(join(folder, 'alerts.yaml'), 'utf8')).tests as readonly {
      readonly alert_rule_test: readonly { readonly alertname: string; readonly exp_alerts?: readonly unknown[] }[]
    }[]
    const cases = tried.flatMap((test) => test.alert_rule_test)
    for (const { alert } of rules) {
      if (alert === undefined) continue
      const own = cases.filter(({ alertname }) => alertname === alert)
      t.ok(
        own.some(({ exp_alerts = [] }) => exp_alerts.length > 0),
        `${alert} rings`,
      )
      t.ok(
        own.some(({ exp_alerts = [] }) => exp_alerts.length === 0),
        `${alert} keeps quiet`,
      )
    }
  })

  t.test('the queries of the dashboard can be parsed', async (t) => {
    const groups = [
      {
        name: 'dashboard',
        rules: dashboard.panels.flatMap(({ id, targets = [] }) =>
          targets.map(({ expr }, index) => ({
            record: `panel_${id}_${index}`,
            expr: expr.replaceAll('$__rate_interval', '5m').replaceAll('$policy', '.*'),
          })),
        ),
      },
    ]
    writeFileSync(join(folder, 'dashboard.yaml'), stringify({ groups }))
    promtool(t, 'check', 'rules', 'dashboard.yaml')
  })
})

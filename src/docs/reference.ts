import { CONDITIONS } from '../api/conditions.js'
import { DECISION_REASONS, EVENT_REASONS, MIGRATION_REASONS } from '../api/reasons.js'
import { ConfigExit, parseConfig } from '../config.js'
import { createMetrics } from '../metrics.js'
import { table } from './markdown.js'

/** The part of a PrometheusRule that is read. */
export interface AlertGroups {
  readonly groups: readonly {
    readonly rules: readonly {
      readonly alert?: string
      readonly for?: string
      readonly labels?: Readonly<Record<string, string>>
      readonly annotations?: Readonly<Record<string, string>>
    }[]
  }[]
}

/** docs/reference.md: everything that the operator says, from where it is defined. */
export async function referencePage({ groups }: AlertGroups): Promise<string> {
  const sections = [
    '<!-- Made by `npm run generate` from the source. Do not edit. -->',
    '# Reference',
    'What the operator says, and what it means. [Troubleshooting](troubleshooting.md) starts from symptoms instead.',
    '## Decision reasons',
    'Why a volume is where it is: `spec.decision.reason` of its ReplicaTopology, `spec.decision.holds`, the counts in the status of its StoragePolicy, and the label `reason` of metrics. Where several apply, the first of this list is the reason.',
    table(['reason', 'meaning'], Object.entries(DECISION_REASONS).map(coded)),
    '## Migration reasons',
    'How a migration ended, or what it is doing or waiting for: `status.migration.reason` of a ReplicaTopology. A migration that was declined before anything was touched has a decision reason instead.',
    table(['reason', 'meaning'], Object.entries(MIGRATION_REASONS).map(coded)),
    '## Conditions',
    ...Object.entries(CONDITIONS).flatMap(([kind, conditions]) => [
      `### ${kind}`,
      ...Object.entries(conditions).flatMap(([type, { meaning, reasons }]) => [
        `**${type}.** ${meaning}`,
        ...(Object.keys(reasons).length === 0
          ? []
          : [table(['reason', 'meaning'], Object.entries(reasons).map(coded))]),
      ]),
    ]),
    '## Events',
    'On the StoragePolicy (in namespace `default`, as it is cluster-scoped) and on the claim of the volume: one for each migration and transition, never twice.',
    table(
      ['event', 'type', 'when'],
      Object.entries(EVENT_REASONS).map(([reason, { type, when }]) => [`\`${reason}\``, type, when]),
    ),
    '## Metrics',
    'On `--metrics-addr`, path `/metrics`. The metrics of the process and of Node.js (`process_`, `nodejs_`) are there too.',
    table(['metric', 'type', 'labels', 'meaning'], await metrics()),
    '## Alerts',
    'In the overlay `monitoring`.',
    table(['alert', 'severity', 'after', 'meaning'], alerts(groups)),
    '## Options',
    `\`\`\`text\n${help()}\n\`\`\``,
  ]
  return `${sections.join('\n\n')}\n`
}

const coded = ([name, meaning]: readonly [string, string]): readonly string[] => [`\`${name}\``, meaning]

async function metrics(): Promise<string[][]> {
  const { registry } = createMetrics({ version: '' })
  const all = await registry.getMetricsAsJSON()
  return all.map(({ name, type, help }) => {
    const { labelNames } = registry.getSingleMetric(name) as unknown as { labelNames: readonly string[] }
    return [`\`${name}\``, String(type), labelNames.map((label) => `\`${label}\``).join(', '), help]
  })
}

function alerts(groups: AlertGroups['groups']): string[][] {
  return groups
    .flatMap(({ rules }) => rules)
    .flatMap(({ alert, for: after = 'at once', labels, annotations }) =>
      alert === undefined
        ? []
        : [
            [
              `\`${alert}\``,
              labels?.['severity'] ?? '',
              after,
              `${template(annotations?.['summary'])} ${template(annotations?.['description'])}`,
            ],
          ],
    )
}

/** `{{ $labels.hook }}` in words; pages are beside this one. */
const template = (text = '') =>
  text
    .replace(/\{\{ \$labels\.(\w+) \}\}/g, 'X')
    .replace(/docs\/(\w+\.md)/g, '[$1]($1)')
    .replace(/</g, '&lt;')

function help(): string {
  try {
    parseConfig(['--help'], {})
  } catch (error) {
    if (error instanceof ConfigExit) return error.message.trim()
    throw error
  }
  throw new Error('--help did not end the program')
}

import { stringify } from 'yaml'
import type { ObservedReplica } from '../api/replica-topology.js'
import type { Explanation, PolicyState } from './explanation.js'

export const FORMATS = ['table', 'wide', 'json', 'yaml'] as const
export type Format = (typeof FORMATS)[number]

export interface Report {
  readonly policies: readonly PolicyState[]
  readonly volumes: readonly Explanation[]
}

/** `one`: a single volume was asked for, which a table says more about than fits into a row. */
export function print(report: Report, format: Format, one: boolean): string {
  switch (format) {
    case 'json':
      return JSON.stringify(report, undefined, 2)
    case 'yaml':
      return stringify(report).trimEnd()
    case 'wide':
      return [...policyLines(report.policies), table(report.volumes, WIDE)].join('\n')
    case 'table': {
      const volumes = one ? report.volumes.map(description).join('\n\n') : table(report.volumes, NARROW)
      return [...policyLines(report.policies), volumes].join('\n')
    }
  }
}

/** Of the policies that are not as they should be. */
function policyLines(policies: readonly PolicyState[]): string[] {
  return policies.flatMap(({ name, ready, reason, message, stalled }) => [
    ...(ready ? [] : [`StoragePolicy ${name} is not ready (${reason}): ${message}`]),
    ...(stalled === undefined ? [] : [`StoragePolicy ${name} starts nothing new: ${stalled}`]),
  ])
}

type Column = readonly [title: string, cell: (explanation: Explanation) => string]

const nameOf = ({ claim, volume }: Explanation) => (claim === undefined ? volume : `${claim.namespace}/${claim.name}`)
const wantedTier = ({ belongs }: Explanation) => belongs.tier ?? '-'
const nextOf = ({ next }: Explanation) => (isTime(next.when) ? `${next.what}, not before ${next.when}` : next.what)
const isTime = (when: string) => /^\d{4}-/.test(when)

const NARROW: readonly Column[] = [
  ['CLAIM', nameOf],
  ['TIER', ({ where }) => where.tier],
  ['BELONGS', wantedTier],
  ['WHY', ({ belongs }) => belongs.reason],
  ['NEXT', nextOf],
]

const WIDE: readonly Column[] = [
  ['CLAIM', nameOf],
  ['VOLUME', ({ volume }) => volume],
  ['POLICY', ({ policy }) => policy],
  ['TIER', ({ where }) => where.tier],
  ['POOLS', ({ where }) => where.replicas.map(({ pool }) => pool ?? '?').join(',') || '-'],
  ['BELONGS', wantedTier],
  ['WHY', ({ belongs }) => belongs.reason],
  ['HELD BY', ({ holds }) => holds.map(({ reason }) => reason).join(',') || '-'],
  ['MIGRATION', ({ migration }) => (migration === undefined ? '-' : `${migration.phase} (${migration.reason})`)],
  ['NEXT', nextOf],
]

function table(volumes: readonly Explanation[], columns: readonly Column[]): string {
  const rows = [columns.map(([title]) => title), ...volumes.map((one) => columns.map(([, cell]) => cell(one)))]
  return aligned(rows)
}

function description(explanation: Explanation): string {
  const { volume, volumeID, policy, where, belongs, holds, migration, next, warnings } = explanation
  const several = (title: string, lines: readonly string[]) =>
    lines.map((line, index): [string, string] => [index === 0 ? title : '', line])
  const rows: [string, string][] = [
    ['Claim', explanation.claim === undefined ? 'none' : nameOf(explanation)],
    ['Volume', `${volume} (Mayastor ${volumeID})`],
    ['Policy', policy],
    ['Where', where.state === undefined ? 'not observed yet' : `${where.tier}, ${where.state}`],
    ...several('', where.replicas.map(replicaLine)),
    ['Belongs', `${belongs.tier ?? 'where it is'}: ${belongs.message} (${belongs.reason})`],
    ...several(
      'Held back',
      holds.map(({ reason, message }) => `${reason}: ${message}`),
    ),
    ...(migration === undefined
      ? []
      : ([
          ['Migration', `${migration.id}, ${migration.direction}: ${migration.phase} (${migration.reason})`],
          ['', `${migration.message}; ${migration.replicasMoved} of ${migration.replicasTotal} replicas moved`],
        ] as [string, string][])),
    ...several('Warning', warnings),
    ['Next', next.what],
    ['When', isTime(next.when) ? `not before ${next.when}` : next.when],
  ]
  return aligned(rows)
}

function replicaLine({ pool = 'a lost pool', node, state, synced, rebuildPercent }: ObservedReplica): string {
  const sync = synced ? 'synced' : rebuildPercent === undefined ? 'not synced' : `${rebuildPercent} % rebuilt`
  return `${pool}${node === undefined ? '' : ` on ${node}`}: ${state}, ${sync}`
}

/** Columns two spaces apart, the last as long as it is. */
function aligned(rows: readonly (readonly string[])[]): string {
  const widths = (rows[0] ?? []).map((_, column) => Math.max(...rows.map((row) => (row[column] ?? '').length)))
  return rows
    .map((row) =>
      row
        .map((cell, column) => (column === row.length - 1 ? cell : cell.padEnd((widths[column] ?? 0) + 2)))
        .join('')
        .trimEnd(),
    )
    .join('\n')
}

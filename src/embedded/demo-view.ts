import type { Writable } from 'node:stream'
import { createLogUpdate } from 'log-update'
import pc from 'picocolors'
import type { Direction, MigrationPhase, Tier } from '../api/names.js'
import { DECISION_REASONS } from '../api/reasons.js'
import type { Violation } from './checker.js'

/** How the demo looks: a screen that is drawn anew on a terminal, plain lines elsewhere. Knows nothing of the cluster. */

export type Screen = Writable & { readonly isTTY?: boolean; readonly columns?: number; readonly rows?: number }
export type Colours = Pick<typeof pc, 'bold' | 'dim' | 'red' | 'green' | 'yellow' | 'cyan' | 'magenta'>

export interface TierRow {
  readonly tier: Tier
  readonly usedBytes: number
  readonly capacityBytes: number
}

export interface VolumeRow {
  readonly name: string
  /** One letter a replica: N on NVMe, S on SATA, ? elsewhere. */
  readonly tiers: string
  /** Mean over the sampling window; undefined: nothing was measured. */
  readonly iops: number | undefined
  /** Where it belongs; undefined: where it is. */
  readonly wants: Tier | undefined
  readonly reason: string
  readonly message: string
}

export interface MigrationRow {
  readonly name: string
  readonly direction: Direction
  readonly phase: MigrationPhase
  readonly reason: string
  /** Which of its replicas is being moved, from 1. */
  readonly replica: number
  readonly replicas: number
  readonly from: string | undefined
  readonly to: string | undefined
  readonly rebuildPercent: number | undefined
}

export interface DemoEvent {
  readonly elapsedMs: number
  readonly volume?: string
  readonly kind: 'decision' | 'phase' | 'end' | 'note'
  readonly text: string
  readonly bad?: boolean
}

export interface Tally {
  readonly promoted: number
  readonly demoted: number
  readonly failed: number
  readonly aborted: number
  /** Refused before anything was touched. */
  readonly declined: number
}

export interface Frame {
  readonly elapsedMs: number
  readonly limitMs: number
  /** Simulated seconds to a second; undefined: as fast as it goes. */
  readonly speed: number | undefined
  readonly policy: string
  readonly phase: string
  readonly tiers: readonly TierRow[]
  readonly shareBefore: number | undefined
  readonly shareNow: number | undefined
  readonly volumesByTier: {
    readonly nvme: number
    readonly sata: number
    readonly mixed: number
    readonly other: number
  }
  readonly cap: number
  readonly tally: Tally
  readonly violations: number
  readonly migrations: readonly MigrationRow[]
  readonly volumes: readonly VolumeRow[]
  /** Newest last. */
  readonly events: readonly DemoEvent[]
}

export interface HeldRow {
  readonly reason: string
  /** Volumes with this reason at the end, and at any time. */
  readonly now: number
  readonly ever: number
}

export interface Summary {
  readonly elapsedMs: number
  readonly realMs: number
  /** Why it ended. */
  readonly ended: string
  readonly volumes: number
  readonly tally: Tally
  readonly replicasMoved: number
  readonly mostMoving: number
  readonly cap: number
  readonly shareBefore: number | undefined
  readonly shareAfter: number | undefined
  readonly windowMinutes: number
  readonly mayastorWrites: number
  readonly hookCalls: number
  readonly failedSyncs: number
  readonly held: readonly HeldRow[]
  readonly settled: readonly HeldRow[]
  readonly violations: readonly Violation[]
  /** What Metacontroller would have choked on. */
  readonly contract: readonly string[]
  /** Set where what must hold at rest could not be looked at, or nothing moved. */
  readonly problems: readonly string[]
}

export interface View {
  event(event: DemoEvent): void
  /** Draws what `frame` says, where something is drawn at all. */
  draw(frame: () => Frame): void
  /** Gives the terminal back. */
  close(): void
  summary(summary: Summary): void
}

const REDRAW_MS = 150
const HIDE_CURSOR = '\u001b[?25l'
const SHOW_CURSOR = '\u001b[?25h'
const CLEAR_SCREEN = '\u001b[2J\u001b[H'
const plainColours = pc.createColors(false)

/** One line an event, without control characters. */
export function plainView(out: Screen): View {
  return {
    event: (event) => out.write(`${plainLine(event)}\n`),
    draw: () => {},
    close: () => {},
    summary: (summary) => out.write(`\n${summaryLines(summary, plainColours, 120).join('\n')}\n`),
  }
}

/** A screen of the terminal's size, drawn some times a second. */
export function liveView(out: Screen): View {
  const colours = pc.createColors(pc.isColorSupported)
  // The cursor is hidden here: log-update would do it on stderr, which may be elsewhere.
  const log = createLogUpdate(out, { showCursor: true })
  let latest: (() => Frame) | undefined
  let timer: NodeJS.Timeout | undefined
  const show = () => out.write(SHOW_CURSOR)
  const redraw = () => {
    const { columns = 80, rows = 24 } = out
    if (latest !== undefined) log(frameLines(latest(), columns, rows - 1, colours).join('\n'))
  }
  const resized = () => {
    out.write(CLEAR_SCREEN)
    log.done()
    redraw()
  }
  return {
    event: () => {},
    draw: (frame) => {
      latest = frame
      if (timer !== undefined) return
      out.write(HIDE_CURSOR)
      process.once('exit', show)
      out.on('resize', resized)
      timer = setInterval(redraw, REDRAW_MS)
      redraw()
    },
    close: () => {
      if (timer === undefined) return
      clearInterval(timer)
      timer = undefined
      out.off('resize', resized)
      log.clear()
      process.off('exit', show)
      show()
    },
    summary: (summary) => out.write(`${summaryLines(summary, colours, out.columns ?? 80).join('\n')}\n`),
  }
}

export function plainLine({ elapsedMs, volume = '', kind, text }: DemoEvent): string {
  return `+${clock(elapsedMs)}  ${kind.padEnd(8)}  ${volume.padEnd(NAME_WIDTH)}  ${text}`
}

/** A piece of a line, and what colours it. Colours come after clipping, so that widths are those of what is seen. */
type Span = readonly [text: string, colour?: ((text: string) => string) | undefined]

const NAME_WIDTH = 15
const REASON_WIDTH = 17
const BAR_WIDTH = 10
/** Rows below which nothing is left between the parts of the screen. */
const ROOMY_ROWS = 32

/** The screen: at most `rows` lines of at most `columns` characters. */
export function frameLines(frame: Frame, columns: number, rows: number, c: Colours): string[] {
  const roomy = rows >= ROOMY_ROWS
  const gap = roomy ? [''] : []
  const title = (text: string) => line([[text, c.bold]], columns)
  const head = [...header(frame, columns, c), ...gap]
  const running = frame.migrations.slice(0, frame.cap).map((row) => migrationLine(row, columns, c))
  while (running.length < frame.cap) running.push(line([['  -', c.dim]], columns))
  const migrations = [title('MIGRATIONS'), ...running, ...gap]
  const eventCount = roomy ? Math.min(8, Math.floor(rows / 6)) : 3
  const events = frame.events.slice(-eventCount).map((event) => eventLine(event, columns, c))
  while (events.length < eventCount) events.push('')
  const tail = [...gap, title('EVENTS'), ...events]
  const room = Math.max(1, rows - head.length - migrations.length - tail.length - 1)
  const shown = worthSeeing(frame.volumes, frame.volumes.length > room ? room - 1 : room)
  const hidden = frame.volumes.length - shown.length
  const volumes = [
    title(`${'VOLUMES'.padEnd(NAME_WIDTH + 5)}TIERS    IOPS  WANTS  REASON`),
    ...shown.map((row) => volumeLine(row, columns, c)),
    ...(hidden > 0 ? [line([[`  and ${hidden} more`, c.dim]], columns)] : []),
  ]
  return [...head, ...migrations, ...volumes, ...tail].slice(0, rows)
}

function header(frame: Frame, columns: number, c: Colours): string[] {
  const { tally, volumesByTier: by, shareBefore, shareNow } = frame
  const speed = frame.speed === undefined ? '' : `, ${frame.speed}x`
  const left = `smart-storage-operator demo   policy ${frame.policy}: ${frame.phase}`
  const right = `+${clock(frame.elapsedMs)} of ${clock(frame.limitMs)}${speed}`
  const gap = ' '.repeat(Math.max(2, columns - left.length - right.length))
  const fills = frame.tiers.flatMap(({ tier, usedBytes, capacityBytes }, i): Span[] => {
    const share = capacityBytes === 0 ? 0 : usedBytes / capacityBytes
    return [
      [`${i === 0 ? '' : '    '}${tier} `, c.bold],
      [bar(share, BAR_WIDTH), share > 0.85 ? c.red : tier === 'NVMe' ? c.magenta : c.cyan],
      [` ${percent(share)} of ${bytes(capacityBytes)}`],
    ]
  })
  const broken: Span =
    frame.violations === 0 ? ['0 rules broken', c.green] : [`${frame.violations} rules broken`, c.red]
  return [
    line([[left, c.bold], [gap], [right, c.dim]], columns),
    line(fills, columns),
    line(
      [
        ['I/O from NVMe ', c.bold],
        [bar(shareNow ?? 0, BAR_WIDTH), c.green],
        [` ${percent(shareNow)}, was ${percent(shareBefore)}    `],
        [`volumes: ${by.nvme} NVMe, ${by.sata} SATA, ${by.mixed} mixed${by.other > 0 ? `, ${by.other} other` : ''}`],
      ],
      columns,
    ),
    line(
      [
        [`${tally.promoted} promoted`, c.green],
        [', '],
        [`${tally.demoted} demoted`, c.cyan],
        [`, ${tally.failed} failed, ${tally.aborted} aborted, ${tally.declined} declined    `],
        broken,
      ],
      columns,
    ),
  ]
}

function migrationLine(row: MigrationRow, columns: number, c: Colours): string {
  const up = row.direction === 'Promote'
  const rebuilding = row.phase === 'WaitingSync'
  // What these reasons say of the added replica; no percentage is reported any more.
  const synced = row.reason === 'ConfirmingSync' || row.reason === 'Shrinking'
  const share = synced ? 1 : row.rebuildPercent === undefined ? undefined : row.rebuildPercent / 100
  return line(
    [
      [up ? '▲ ' : '▼ ', up ? c.green : c.cyan],
      [clip(row.name, NAME_WIDTH)],
      [` ${row.replica}/${row.replicas} `],
      [clip(row.phase, 11), rebuilding ? c.yellow : c.bold],
      [` ${bar(share ?? 0, BAR_WIDTH)} `, c.yellow],
      [(share === undefined ? '' : percent(share)).padStart(5)],
      [row.from === undefined ? '' : ` ${row.from} → ${row.to}`],
      [` ${row.reason}`, c.dim],
    ],
    columns,
  )
}

function volumeLine(row: VolumeRow, columns: number, c: Colours): string {
  const colour = isSettled(row.reason) ? c.dim : row.reason === 'Migrating' ? c.green : c.yellow
  const tiers = [...row.tiers].map((letter): Span => [letter, letter === 'N' ? c.magenta : c.cyan])
  return line(
    [
      [`  ${clip(row.name, NAME_WIDTH)}   `],
      ...tiers,
      [' '.repeat(Math.max(0, 5 - row.tiers.length))],
      [(row.iops === undefined ? '-' : count(row.iops)).padStart(7)],
      [`  ${clip(row.wants ?? '-', 5)}`],
      [`  ${clip(row.reason, REASON_WIDTH)}`, colour],
      [` ${row.message}`, c.dim],
    ],
    columns,
  )
}

function eventLine(event: DemoEvent, columns: number, c: Colours): string {
  const colour = event.bad ? c.red : event.kind === 'end' ? c.green : event.kind === 'note' ? c.yellow : undefined
  const what = event.volume === undefined ? '' : clip(event.volume, NAME_WIDTH)
  return line(
    [[`+${clock(event.elapsedMs)}  `, c.dim], [what === '' ? '' : `${what}  `], [event.text, colour]],
    columns,
  )
}

export function summaryLines(summary: Summary, c: Colours, columns: number): string[] {
  const { tally, violations, contract, problems, shareBefore, shareAfter } = summary
  const row = (name: string, text: string, colour?: (text: string) => string) =>
    line([[`  ${name.padEnd(20)}`], [text, colour]], columns)
  const reasons = (rows: readonly HeldRow[]) =>
    rows.map(({ reason, now, ever }) =>
      line(
        [
          [`  ${reason.padEnd(20)}`],
          [String(now).padStart(4)],
          [String(ever).padStart(6)],
          [`  ${(DECISION_REASONS as Readonly<Record<string, string>>)[reason] ?? ''}`, c.dim],
        ],
        columns,
      ),
    )
  const safe = violations.length === 0 && contract.length === 0
  return [
    line(
      [[`${clock(summary.elapsedMs)} simulated in ${Math.round(summary.realMs / 1000)} s: ${summary.ended}`]],
      columns,
    ),
    '',
    line([['SUMMARY', c.bold]], columns),
    row('promoted', `${tally.promoted}`, c.green),
    row('demoted', `${tally.demoted}`, c.cyan),
    row('failed', `${tally.failed}`, tally.failed > 0 ? c.red : undefined),
    row('aborted', `${tally.aborted}`),
    row('declined', `${tally.declined}  before anything was touched`),
    row('replicas moved', `${summary.replicasMoved}`),
    row('most at once', `${summary.mostMoving} volumes of ${summary.cap} allowed`),
    row(
      'I/O from NVMe',
      `${percent(shareBefore)} before, ${percent(shareAfter)} after  (${summary.windowMinutes} minutes each)`,
      c.bold,
    ),
    row('writes to Mayastor', `${summary.mayastorWrites}`),
    row('hook calls', `${summary.hookCalls}, ${summary.failedSyncs} syncs failed`),
    '',
    line([[`${'HELD'.padEnd(22)} now  ever  why`, c.bold]], columns),
    ...reasons(summary.held),
    '',
    line([[`${'SETTLED'.padEnd(22)} now  ever  of ${summary.volumes} volumes`, c.bold]], columns),
    ...reasons(summary.settled),
    '',
    line([['SAFETY', c.bold]], columns),
    safe
      ? line([['  0 rules broken', c.green]], columns)
      : line([[`  ${violations.length + contract.length} rules broken`, c.red]], columns),
    // What went wrong is never cut short.
    ...violations.map(({ rule, what, at }) => c.red(`  ${new Date(at).toISOString()}  ${rule}: ${what}`)),
    ...contract.map((what) => c.red(`  Metacontroller: ${what}`)),
    ...problems.map((what) => c.red(`  ${what}`)),
  ]
}

const SETTLED: readonly string[] = ['OnWantedTier', 'BetweenWatermarks', 'OutsideTiers', 'Migrating']

/** Nothing holds the volume: it is where it should be, or on its way. */
export function isSettled(reason: string): boolean {
  return SETTLED.includes(reason)
}

/**
 * The rows to show where not all fit: one of each reason, then a second of each, those held before those settled and
 * the busiest first. Shown by reason.
 */
export function worthSeeing(rows: readonly VolumeRow[], room: number): VolumeRow[] {
  const order = Object.keys(DECISION_REASONS)
  const rank = ({ reason }: VolumeRow) =>
    (isSettled(reason) ? order.length : 0) + (order.indexOf(reason) + 1 || order.length)
  const sorted = [...rows].sort((a, b) => rank(a) - rank(b) || (b.iops ?? -1) - (a.iops ?? -1))
  const nth = new Map<string, number>()
  const turn = new Map<VolumeRow, number>()
  for (const row of sorted) {
    const n = nth.get(row.reason) ?? 0
    nth.set(row.reason, n + 1)
    turn.set(row, n)
  }
  const chosen = new Set(
    [...sorted].sort((a, b) => (turn.get(a) ?? 0) - (turn.get(b) ?? 0)).slice(0, Math.max(0, room)),
  )
  return sorted.filter((row) => chosen.has(row))
}

function line(spans: readonly Span[], columns: number): string {
  let left = columns
  let text = ''
  for (const [part, colour] of spans) {
    if (left <= 0) break
    const cut = [...part].slice(0, left).join('')
    left -= [...cut].length
    text += colour === undefined ? cut : colour(cut)
  }
  return text.trimEnd()
}

function clip(text: string, width: number): string {
  return text.length > width ? `${text.slice(0, width - 1)}…` : text.padEnd(width)
}

function bar(share: number, width: number): string {
  const full = Math.round(Math.min(1, Math.max(0, share)) * width)
  return '█'.repeat(full) + '░'.repeat(width - full)
}

function percent(share: number | undefined): string {
  return share === undefined ? '-' : `${Math.round(share * 100)} %`
}

function count(value: number): string {
  return Math.round(value).toString()
}

function bytes(value: number): string {
  const gib = value / 1024 ** 3
  return gib >= 1024 ? `${(gib / 1024).toFixed(1)} TiB` : `${Math.round(gib)} GiB`
}

/** h:mm:ss */
export function clock(ms: number): string {
  const seconds = Math.floor(ms / 1000)
  const two = (value: number) => String(value).padStart(2, '0')
  return `${Math.floor(seconds / 3600)}:${two(Math.floor(seconds / 60) % 60)}:${two(seconds % 60)}`
}

import type { StoredLease } from '../../src/clients/leases.js'
import type { EdgeCall } from '../../src/embedded/hook-process.js'

/**
 * The rows of the protocol by which one replica moves, and which of them a request belongs to. The operator's records
 * are read as the JSON they are.
 */
export const ROWS = [
  'check',
  'fence',
  'fenced',
  'grow',
  'unfence',
  'landed',
  'rebuild',
  'recheck',
  'label',
  'shrink',
  'unlabel',
  'done',
] as const
export type Row = (typeof ROWS)[number]

/**
 * Where in a row: before its call is announced, when it is announced and not sent, the call itself, when its answer is
 * there. Rows that only read have the last two.
 */
export const MOMENTS = ['unannounced', 'announced', 'call', 'answered'] as const
export type Moment = (typeof MOMENTS)[number]

export const READING_ROWS: ReadonlySet<Row> = new Set(['check', 'fenced', 'landed', 'rebuild', 'recheck', 'done'])

export interface Place {
  readonly volume: string
  readonly row: Row
  /** A read of or a write to Mayastor, the swap of a record that announces a write, or one that announces none. */
  readonly kind: 'read' | 'write' | 'swap' | 'note'
}

/** A journal as far as rows depend on it. */
export interface JournalRecord {
  readonly volume: string
  readonly id: string
  readonly phase: string
  readonly policy: string
  readonly count: number
  readonly call?: { readonly op: string; readonly count?: number; readonly pool?: string; readonly node?: string }
  readonly growSentAt?: number
  readonly removalSentAt?: number
  readonly baseline: readonly { readonly replica: string }[]
  readonly reading?: object
  readonly held?: { readonly reason: string; readonly forPerson: boolean }
  readonly move: { readonly replica: string; readonly targetPool: string; readonly added?: string }
  readonly end?: { readonly phase: string; readonly reason: string; readonly started: boolean }
}

export interface FenceRecord {
  readonly volume?: string
  readonly call?: object
  readonly intent?: {
    readonly pools?: readonly { readonly pool: string }[]
    readonly label?: { readonly node: string; readonly label: string }
  }
}

const CALL_ROWS: Readonly<Record<string, Row>> = {
  cordonPool: 'fence',
  uncordonPool: 'unfence',
  cordonNode: 'label',
  uncordonNode: 'unlabel',
}
const WRITE = /^(PUT|DELETE) \/v0\/(volumes|pools|nodes)\/([^/]+)\/(?:replica_count|cordon)(?:\/([^/]+))?$/
const READ = /^GET \/v0\/volumes\/([^/?]+)$/

/** Follows the records as they are written, and says what each request is about. */
export class Places {
  readonly #journals = new Map<string, JournalRecord>()
  readonly #landed = new Set<string>()
  readonly #last = new Map<string, Row>()
  fence: FenceRecord = {}

  journal(volume: string): JournalRecord | undefined {
    return this.#journals.get(volume)
  }

  get journals(): readonly JournalRecord[] {
    return [...this.#journals.values()]
  }

  /** Migrations under way, and the row each was seen in last. */
  *active(): Generator<{ readonly volume: string; readonly row: Row }> {
    for (const { volume, phase } of this.#journals.values()) {
      const row = this.#last.get(volume)
      if (phase !== 'Ended' && phase !== 'Preserved' && row !== undefined) yield { volume, row }
    }
  }

  written(name: string, lease: StoredLease | undefined): void {
    const data = lease === undefined ? {} : (parsed(lease.data) ?? {})
    if (name === 'fence') this.fence = data as FenceRecord
    if (!name.startsWith('move-')) return
    const volume = name.slice('move-'.length)
    if (lease === undefined || (data as { phase?: unknown }).phase === undefined) this.#journals.delete(volume)
    else this.#journals.set(volume, data as JournalRecord)
  }

  /** Undefined: it is not about the move of one volume. */
  of({ to, what, data }: EdgeCall): Place | undefined {
    const place = to === 'mayastor' ? this.#ofRequest(what) : to === 'leases' ? this.#ofSwap(what, data) : undefined
    if (place !== undefined) this.#last.set(place.volume, place.row)
    return place
  }

  #ofRequest(what: string): Place | undefined {
    const [, method, kind, id = '', last] = WRITE.exec(what) ?? []
    switch (kind) {
      case 'volumes':
        return { volume: id, row: this.#journals.get(id)?.phase === 'ScalingUp' ? 'grow' : 'shrink', kind: 'write' }
      case 'pools':
        return this.#fenced(method === 'PUT' ? 'fence' : 'unfence', 'write')
      case 'nodes': {
        const volume = last?.replace(/^tier-move-/, '').replace(/-\d+$/, '') ?? ''
        return { volume, row: method === 'PUT' ? 'label' : 'unlabel', kind: 'write' }
      }
    }
    const [, volume] = READ.exec(what) ?? []
    const row = volume === undefined ? undefined : this.#readingRow(volume)
    return volume === undefined || row === undefined ? undefined : { volume, row, kind: 'read' }
  }

  #ofSwap(what: string, data: string | undefined): Place | undefined {
    const [verb, name = ''] = what.split(' ')
    if (verb !== 'replace' && verb !== 'create') return undefined
    const record = (parsed(data) ?? {}) as Partial<JournalRecord>
    const volume = name === 'fence' ? (record.volume ?? this.fence.volume) : record.volume
    if (volume === undefined) return undefined
    const announced = record.call === undefined ? undefined : CALL_ROWS[record.call.op]
    // What announces no call belongs to the reading it follows from.
    if (record.call === undefined) return { volume, row: this.#last.get(volume) ?? 'check', kind: 'note' }
    return { volume, row: announced ?? (record.phase === 'ScalingUp' ? 'grow' : 'shrink'), kind: 'swap' }
  }

  #fenced(row: Row, kind: Place['kind']): Place | undefined {
    const { volume } = this.fence
    return volume === undefined ? undefined : { volume, row, kind }
  }

  #readingRow(volume: string): Row | undefined {
    const journal = this.#journals.get(volume)
    const bracket = this.fence.volume === volume
    if (journal === undefined || journal.phase === 'Ended') return 'check'
    switch (journal.phase) {
      case 'ScalingUp':
        this.#landed.delete(volume)
        return bracket && (this.fence.intent?.pools?.length ?? 0) > 0 ? 'fenced' : 'check'
      case 'WaitingSync':
        if (bracket) return undefined
        if (this.#landed.has(volume)) return 'rebuild'
        this.#landed.add(volume)
        return 'landed'
      case 'ScalingDown':
        if (journal.removalSentAt === undefined) return bracket ? undefined : 'recheck'
        return bracket ? undefined : 'done'
      default:
        return undefined
    }
  }
}

function parsed(data: string | undefined): object | undefined {
  try {
    const value: unknown = JSON.parse(data ?? '')
    return typeof value === 'object' && value !== null ? value : undefined
  } catch {
    return undefined
  }
}

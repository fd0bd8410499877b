import type { SimulatedClock } from '../clock.js'
import { type KubeObject, keyOf, objectKey } from './objects.js'
import type { Resource } from './resources.js'
import type { ObjectStore, WatchEvent } from './store.js'
import { Timers } from './timers.js'

/** Real informers of related kinds are opened by the first rule that names them; their first list takes this long. */
const FIRST_LIST_MS = 10

/** Told of a change; a promise holds up everything behind it, and time, until it settles. It never rejects. */
export type ChangeHandler = (old: KubeObject | undefined, current: KubeObject | undefined) => void | Promise<void>

/**
 * The watch caches of one Metacontroller, shared by its controllers. They follow the store with a lag per object, and
 * tell handlers of each kind about changes one at a time: a handler that calls a hook holds up those behind it.
 */
export class InformerCache {
  readonly #clock: SimulatedClock
  readonly #lagMs: (kind: string, name: string) => number
  readonly #kinds = new Map<string, Map<string, KubeObject>>()
  readonly #handlers = new Map<string, ChangeHandler[]>()
  readonly #lastDue = new Map<string, number>()
  readonly #timers: Timers
  readonly #waiting = new Map<string, (() => void | Promise<void>)[]>()
  readonly #synced = new Set<string>()
  readonly #opening = new Set<string>()
  readonly #unwatch: () => void
  #closed = false

  constructor(clock: SimulatedClock, store: ObjectStore, lagMs: (kind: string, name: string) => number) {
    this.#clock = clock
    this.#timers = new Timers(clock)
    this.#lagMs = lagMs
    for (const object of store.all()) this.#kindOf(object).set(objectKey(object), object)
    this.#unwatch = store.watch((event) => this.#follow(event))
  }

  get(resource: Resource, name: string, namespace?: string): KubeObject | undefined {
    return this.#kinds.get(`${resource.apiVersion} ${resource.kind}`)?.get(keyOf(name, namespace))
  }

  list(resource: Resource): KubeObject[] {
    return [...(this.#kinds.get(`${resource.apiVersion} ${resource.kind}`)?.values() ?? [])]
  }

  /** Opens the informer of a parent or child kind; it is synced before its controller starts to work. */
  open(resource: Resource): void {
    this.#synced.add(`${resource.apiVersion} ${resource.kind}`)
  }

  /** Whether the informer of a related kind has its first list; asking opens it. */
  synced(resource: Resource): boolean {
    const id = `${resource.apiVersion} ${resource.kind}`
    if (this.#synced.has(id)) return true
    if (!this.#opening.has(id)) {
      this.#opening.add(id)
      this.#timers.after(FIRST_LIST_MS, () => this.#synced.add(id))
    }
    return false
  }

  onChange(resource: Resource, handler: ChangeHandler): void {
    const id = `${resource.apiVersion} ${resource.kind}`
    this.#handlers.set(id, [...(this.#handlers.get(id) ?? []), handler])
  }

  /** Everything written has reached the caches, and everybody has been told. */
  idle(): boolean {
    return this.#timers.pending === 0 && this.#waiting.size === 0
  }

  close(): void {
    this.#closed = true
    this.#unwatch()
    this.#timers.clear()
  }

  #kindOf(object: KubeObject): Map<string, KubeObject> {
    const id = `${object.apiVersion} ${object.kind}`
    let objects = this.#kinds.get(id)
    if (objects === undefined) {
      objects = new Map()
      this.#kinds.set(id, objects)
    }
    return objects
  }

  #follow(event: WatchEvent): void {
    const { object } = event
    const id = `${object.apiVersion} ${object.kind} ${objectKey(object)}`
    const now = this.#clock.now()
    const due = Math.max(now + this.#lagMs(object.kind, object.metadata.name), this.#lastDue.get(id) ?? 0)
    if (due <= now) {
      this.#deliver(event)
      return
    }
    // An object's changes arrive in the order they were made, however the lag develops.
    this.#lastDue.set(id, due)
    this.#timers.after(due - now, () => this.#deliver(event))
  }

  #deliver({ type, object }: WatchEvent): void {
    const objects = this.#kindOf(object)
    const old = objects.get(objectKey(object))
    if (type === 'DELETED') objects.delete(objectKey(object))
    else objects.set(objectKey(object), object)
    const current = type === 'DELETED' ? undefined : object
    const id = `${object.apiVersion} ${object.kind}`
    for (const handler of this.#handlers.get(id) ?? [])
      this.#tell(id, () => handler(old ?? (type === 'DELETED' ? object : undefined), current))
  }

  #tell(id: string, tell: () => void | Promise<void>): void {
    const waiting = this.#waiting.get(id)
    if (waiting !== undefined) {
      waiting.push(tell)
      return
    }
    const working = tell()
    if (working === undefined) return
    const queue: (() => void | Promise<void>)[] = []
    this.#waiting.set(id, queue)
    void this.#clock.task(async () => {
      await working
      for (let next = queue.shift(); next !== undefined && !this.#closed; next = queue.shift()) await next()
      this.#waiting.delete(id)
    })
  }
}

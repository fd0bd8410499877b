import { Agent } from 'undici'
import type { SimulatedClock } from '../clock.js'
import { InformerCache } from './cache.js'
import { ParentController } from './controller.js'
import { ApiError, type ObjectStore } from './store.js'
import type { CompositeController, HookCall, HookExchange, SyncError } from './types.js'
import { type Post, postOver } from './webhook.js'

export { LAST_APPLIED } from './apply.js'
export { type KubeObject, type Named, type ObjectRef, refOf } from './objects.js'
export type { Resource } from './resources.js'
export { ApiError, ObjectStore, type ObjectStoreOptions, type WatchEvent, type Write } from './store.js'
export type { CompositeController, HookCall, HookExchange, HookName, SyncError } from './types.js'
export type { Post } from './webhook.js'

export interface MetacontrollerOptions {
  readonly clock: SimulatedClock
  readonly store: ObjectStore
  readonly controllers: readonly CompositeController[]
  /** Scheme and host that replace those of each webhook's URL. */
  readonly baseUrl?: string
  /** Syncs in flight per controller (default 5). */
  readonly workers?: number
  /** How far the watch caches lag behind the store for an object, ms (default 0). Asked at each of its changes. */
  readonly staleness?: (kind: string, name: string) => number
  /** Carries the hook calls. Default: HTTP. */
  readonly post?: Post
  /** Whether the API server answers (default: always). While it does not, requests fail. */
  readonly reachable?: () => boolean
}

/** Like Go's default transport: idle connections are kept for 90 s. */
const KEEP_ALIVE_MS = 90_000

/**
 * Metacontroller in this process: calls hooks over HTTP for the parents in a store and applies what they answer, by
 * the rules of Metacontroller v4.17.2 with dynamic apply. Runs on simulated time; `clock.run` drives it.
 */
export class Metacontroller {
  readonly #options: MetacontrollerOptions
  readonly #calls: HookCall[] = []
  readonly #violations = new Set<string>()
  readonly #errors: SyncError[] = []
  readonly #listeners: ((exchange: HookExchange) => void)[] = []
  #running: { agent: Agent; cache: InformerCache; controllers: readonly ParentController[] } | undefined

  constructor(options: MetacontrollerOptions) {
    this.#options = options
  }

  /** Answers that would have crashed or surprised the real one, each once. */
  get violations(): readonly string[] {
    return [...this.#violations]
  }

  /** Hook calls in the order they ended. */
  get calls(): readonly HookCall[] {
    return this.#calls
  }

  /** Failed syncs in order. */
  get errors(): readonly SyncError[] {
    return this.#errors
  }

  onCall(listener: (exchange: HookExchange) => void): void {
    this.#listeners.push(listener)
  }

  /** Throws when a controller could not be started, for example because nothing serves its kinds. */
  start(): void {
    if (this.#running !== undefined) throw new Error('already started')
    const { clock, baseUrl, workers = 5, staleness = () => 0, reachable = () => true } = this.#options
    const store = whileReachable(this.#options.store, reachable)
    const agent = new Agent({ keepAliveTimeout: KEEP_ALIVE_MS, keepAliveMaxTimeout: KEEP_ALIVE_MS })
    const cache = new InformerCache(clock, store, staleness)
    const build = (spec: CompositeController) =>
      new ParentController({
        clock,
        store,
        cache,
        post: this.#options.post ?? postOver(agent),
        spec,
        baseUrl,
        workers,
        onCall: (call, exchange) => {
          this.#calls.push(call)
          for (const listener of this.#listeners) listener(exchange)
        },
        onViolation: (what) => this.#violations.add(what),
        onError: (error) => this.#errors.push(error),
      })
    let controllers: ParentController[]
    try {
      controllers = this.#options.controllers.map(build)
    } catch (error) {
      cache.close()
      throw error
    }
    this.#running = { agent, cache, controllers }
    for (const controller of controllers) controller.start()
  }

  /** Nothing is queued, under way, on its way through the caches, or waiting to be tried again. */
  idle(): boolean {
    if (this.#running === undefined) return true
    const { cache, controllers } = this.#running
    return cache.idle() && this.#options.store.idle() && controllers.every((controller) => controller.idle())
  }

  /** Ends like a process that is told to: calls under way are given up, nothing more is written. */
  async stop(): Promise<void> {
    const running = this.#running
    this.#running = undefined
    if (running === undefined) return
    running.cache.close()
    await Promise.all(running.controllers.map((controller) => controller.stop()))
    await running.agent.destroy()
  }
}

/** Requests to the API server. What is not here is knowledge of the process itself. */
const REQUESTS: ReadonlySet<PropertyKey> = new Set<keyof ObjectStore>([
  'get',
  'create',
  'update',
  'replaceStatus',
  'patchMetadata',
  'delete',
])

function whileReachable(store: ObjectStore, reachable: () => boolean): ObjectStore {
  return new Proxy(store, {
    get: (target, name) => {
      const value: unknown = Reflect.get(target, name, target)
      if (typeof value !== 'function') return value
      return (...parameters: unknown[]) => {
        if (REQUESTS.has(name) && !reachable()) throw new ApiError('Unavailable', 'the API server does not answer')
        return value.apply(target, parameters)
      }
    },
  })
}

import type { SimulatedClock } from '../clock.js'
import type { InformerCache } from './cache.js'
import { applyChildren, type Grouped, groupDesired, isReason } from './children.js'
import { claim } from './claim.js'
import { Customize, NotSyncedError } from './customize.js'
import { CrashError, DecodeError, decodeCustomize, decodeSync, type RelatedRule, type SyncAnswer } from './decode.js'
import { type Draft, deepEqual, deepFreeze, isObject, toWire } from './json.js'
import { controllerOf, groupOf, type KubeObject, keyOf, kindKey, type OwnerReference, objectKey } from './objects.js'
import { WorkQueue } from './queue.js'
import type { Resource } from './resources.js'
import { compileSelector, isEmptySelector, type LabelMatch, type LabelSelector } from './selector.js'
import type { ObjectStore } from './store.js'
import { Timers } from './timers.js'
import type { CompositeController, HookCall, HookExchange, HookName, SyncError } from './types.js'
import { HookError, type Post, Webhook } from './webhook.js'

/** Local resync of every informer, and so of every parent. */
const CACHE_FLUSH_MS = 30 * 60_000
const LABEL_UID = 'controller-uid'
/** This many syncs of one parent, each right behind the other, are a loop and not work. */
const HOT_LOOP = 100
const UPDATE_METHODS = ['OnDelete', 'Recreate', 'InPlace']

export interface ControllerOptions {
  readonly clock: SimulatedClock
  readonly store: ObjectStore
  readonly cache: InformerCache
  readonly post: Post
  readonly spec: CompositeController
  readonly baseUrl: string | undefined
  readonly workers: number
  readonly onCall: (call: HookCall, exchange: HookExchange) => void
  readonly onViolation: (what: string) => void
  readonly onError: (error: SyncError) => void
}

/** Request bodies repeat the same objects sync after sync; each is written out once. */
const texts = new WeakMap<object, string>()

/** One CompositeController at work. */
export class ParentController {
  readonly name: string
  readonly #options: ControllerOptions
  readonly #by: string
  readonly #finalizer: string
  readonly #snapshot: object
  readonly #parents: Resource
  readonly #children: readonly Resource[]
  readonly #methods = new Map<string, string>()
  readonly #selectsParent: LabelMatch
  readonly #hooks: Partial<Record<HookName, Webhook>> = {}
  readonly #customize: Customize | undefined
  readonly #queue: WorkQueue
  readonly #stop = new AbortController()
  readonly #working = new Set<Promise<void>>()
  readonly #streaks = new Map<string, { at: number; length: number }>()
  readonly #timers: Timers
  #pumping = false

  constructor(options: ControllerOptions) {
    const { spec, store, clock, cache } = options
    this.#options = options
    this.name = spec.metadata.name
    this.#timers = new Timers(clock)
    this.#by = `metacontroller/${this.name}`
    this.#finalizer = `metacontroller.io/compositecontroller-${this.name}`
    this.#snapshot = deepFreeze({
      apiVersion: 'metacontroller.k8s.io/v1alpha1',
      kind: 'CompositeController',
      ...toWire(spec),
      status: {},
    })
    const { parentResource, childResources = [] } = spec.spec
    this.#parents = this.#discover(parentResource.apiVersion, parentResource.resource)
    if (groupOf(parentResource.apiVersion) === '' || this.#parents.statusSubresource === false) {
      throw new Error(
        `${this.name}: parent ${parentResource.resource} is not a custom resource with a status subresource`,
      )
    }
    this.#children = childResources.map((rule) => this.#discover(rule.apiVersion, rule.resource))
    for (const [index, resource] of this.#children.entries()) {
      const method = childResources[index]?.updateStrategy?.method ?? 'OnDelete'
      if (!UPDATE_METHODS.includes(method)) throw new Error(`${this.name}: update method ${method} is not modelled`)
      this.#methods.set(`${groupOf(resource.apiVersion)} ${resource.kind}`, method)
    }
    this.#selectsParent = compileSelector(parentResource.labelSelector)
    for (const hook of ['sync', 'customize', 'finalize'] as const) {
      const hookSpec = spec.spec.hooks[hook]
      if (hookSpec !== undefined) this.#hooks[hook] = new Webhook(clock, options.post, hookSpec, options.baseUrl)
    }
    this.#queue = new WorkQueue(clock, () => this.#pump())
    if (this.#hooks.customize !== undefined) {
      this.#customize = new Customize(
        clock,
        store,
        cache,
        (parent) => this.#callCustomize(parent),
        (resource) => cache.onChange(resource, (old, current) => this.#relatedChanged(old, current)),
      )
    }
  }

  start(): void {
    const { cache, spec } = this.#options
    for (const resource of [this.#parents, ...this.#children]) cache.open(resource)
    cache.onChange(this.#parents, (old, current) => this.#parentChanged(old, current))
    for (const child of this.#children) {
      cache.onChange(child, (old, current) => {
        // A periodic resync; the parents have their own.
        if (old?.metadata.resourceVersion === current?.metadata.resourceVersion) return
        this.#childChanged((current ?? old) as KubeObject)
      })
    }
    const periodMs = Math.max(1, spec.spec.resyncPeriodSeconds ?? 0) * 1000
    if (spec.spec.resyncPeriodSeconds !== undefined && periodMs < CACHE_FLUSH_MS) this.#tick(periodMs)
    this.#tick(CACHE_FLUSH_MS)
    this.#enqueueAll()
  }

  idle(): boolean {
    return this.#queue.idle()
  }

  async stop(): Promise<void> {
    this.#stop.abort()
    this.#queue.close()
    this.#timers.clear()
    await Promise.all(this.#working)
  }

  #discover(apiVersion: string, resource: string): Resource {
    const found = this.#options.store.resource(apiVersion, resource)
    if (found === undefined) {
      throw new Error(`${this.name}: discovery: can't find resource ${resource} in apiVersion ${apiVersion}`)
    }
    return found
  }

  #tick(periodMs: number): void {
    this.#timers.after(periodMs, () => {
      this.#enqueueAll()
      this.#tick(periodMs)
    })
  }

  #enqueueAll(): void {
    for (const parent of this.#options.cache.list(this.#parents)) this.#enqueue(parent)
  }

  #enqueue(parent: KubeObject): void {
    if (this.#cares(parent)) this.#queue.add(objectKey(parent))
  }

  #cares(parent: KubeObject): boolean {
    return this.#hasFinalizer(parent) || this.#selectsParent(parent.metadata.labels)
  }

  #hasFinalizer(parent: KubeObject): boolean {
    return parent.metadata.finalizers?.includes(this.#finalizer) === true
  }

  #parentChanged(old: KubeObject | undefined, current: KubeObject | undefined): void {
    if (
      this.#options.spec.spec.parentResource.ignoreStatusChanges === true &&
      old !== undefined &&
      current !== undefined &&
      old.metadata.generation === current.metadata.generation &&
      deepEqual(old.metadata.labels ?? {}, current.metadata.labels ?? {}) &&
      deepEqual(old.metadata.annotations ?? {}, current.metadata.annotations ?? {}) &&
      current.metadata.deletionTimestamp === undefined
    ) {
      return
    }
    this.#enqueue((current ?? old) as KubeObject)
  }

  #childChanged(child: KubeObject): void {
    const { cache } = this.#options
    const reference = controllerOf(child)
    if (reference !== undefined) {
      if (groupOf(reference.apiVersion) !== groupOf(this.#parents.apiVersion) || reference.kind !== this.#parents.kind)
        return
      const parent = cache.get(
        this.#parents,
        reference.name,
        this.#parents.namespaced ? child.metadata.namespace : undefined,
      )
      if (parent?.metadata.uid === reference.uid) this.#enqueue(parent)
      return
    }
    if (child.metadata.deletionTimestamp !== undefined) return
    for (const parent of cache.list(this.#parents)) {
      if (this.#parents.namespaced && parent.metadata.namespace !== child.metadata.namespace) continue
      if (this.#selectorOf(parent)?.(child.metadata.labels) === true) this.#enqueue(parent)
    }
  }

  /** Rules that are not known are asked for right here, which holds up all later events of that kind. */
  #relatedChanged(old: KubeObject | undefined, current: KubeObject | undefined): void | Promise<void> {
    if (old?.metadata.resourceVersion === current?.metadata.resourceVersion) return
    const customize = this.#customize as Customize
    const changed = [old, current].filter((object) => object !== undefined)
    const parents = this.#options.cache.list(this.#parents)
    const wake = (parent: KubeObject, rules: readonly RelatedRule[]) => {
      if (customize.selects(rules, changed)) this.#enqueue(parent)
    }
    const unknown = parents.filter((parent) => {
      const rules = customize.known(parent)
      if (rules !== undefined) wake(parent, rules)
      return rules === undefined
    })
    if (unknown.length === 0) return
    return this.#askThenWake(unknown, wake)
  }

  async #askThenWake(
    parents: readonly KubeObject[],
    wake: (parent: KubeObject, rules: readonly RelatedRule[]) => void,
  ): Promise<void> {
    for (const parent of parents) {
      try {
        wake(parent, await (this.#customize as Customize).rules(parent))
      } catch {
        // The event is lost for this parent.
      }
    }
  }

  #pump(): void {
    if (this.#pumping) return
    this.#pumping = true
    this.#timers.after(0, () => {
      this.#pumping = false
      while (!this.#stop.signal.aborted && this.#working.size < this.#options.workers) {
        const key = this.#queue.get()
        if (key === undefined) return
        const work: Promise<void> = this.#options.clock.task(async () => {
          await this.#process(key)
          this.#working.delete(work)
          this.#queue.done(key)
          this.#pump()
        })
        this.#working.add(work)
      }
    })
  }

  async #process(key: string): Promise<void> {
    const { clock, onError } = this.#options
    this.#watchForLoop(key)
    try {
      await this.#sync(key)
      this.#queue.forget(key)
    } catch (error) {
      if (this.#stop.signal.aborted) return
      const retryAfterMs = error instanceof HookError ? error.retryAfterMs : undefined
      if (retryAfterMs !== undefined) {
        if (retryAfterMs <= 0) this.#violation(key, '429 without a usable Retry-After: asked again at once')
        this.#queue.retryAfter(key, retryAfterMs)
        return
      }
      this.#queue.addRateLimited(key)
      if (error instanceof NotSyncedError) return
      onError({ at: clock.now(), controller: this.name, parent: key, message: (error as Error).message })
    }
  }

  #watchForLoop(key: string): void {
    const now = this.#options.clock.now()
    const last = this.#streaks.get(key)
    const length = last !== undefined && now - last.at <= 1 ? last.length + 1 : 1
    this.#streaks.set(key, { at: now, length })
    if (length === HOT_LOOP) this.#violation(key, `hot loop: ${HOT_LOOP} syncs right behind each other`)
  }

  async #sync(key: string): Promise<void> {
    const { store, cache } = this.#options
    const slash = key.indexOf('/')
    const cached = cache.get(this.#parents, key.slice(slash + 1), slash < 0 ? undefined : key.slice(0, slash))
    if (cached === undefined || !this.#cares(cached)) return
    let parent = this.#syncFinalizer(cached)
    if (!this.#cares(parent)) return

    const observed = this.#claimChildren(parent)
    const related = (await this.#customize?.related(parent)) ?? []
    const finalizing =
      this.#hooks.finalize !== undefined &&
      (parent.metadata.deletionTimestamp !== undefined || !this.#selectsParent(parent.metadata.labels))
    const answer = await this.#callSync(parent, finalizing, observed, related)
    this.#stop.signal.throwIfAborted()

    if (answer.resyncAfterSeconds > 0) this.#queue.addAfter(key, answer.resyncAfterSeconds * 1000)
    if (answer.finalized) {
      if (!finalizing) this.#violation(key, 'finalized: true from the sync hook takes the finalizer away')
      parent = this.#setFinalizer(parent, false)
    }
    const desired = this.#desiredChildren(parent, answer)
    const errors =
      parent.metadata.deletionTimestamp === undefined || this.#mayManageWhileDeleting(parent)
        ? applyChildren(
            {
              store,
              by: this.#by,
              owner: this.#ownerReference(parent),
              method: (group, kind) => this.#methods.get(`${group} ${kind}`) ?? 'OnDelete',
              surprise: (what) => this.#violation(key, what),
            },
            observed,
            desired,
          )
        : []
    // The status is written whatever became of the children; if it cannot be, their errors are lost.
    if (!this.#updateStatus(key, parent, answer.status)) return
    if (errors.length > 0) {
      throw new Error(
        `can't reconcile children for ${parent.kind} ${key}: ${errors.map((error) => error.message).join(', ')}`,
      )
    }
  }

  #syncFinalizer(parent: KubeObject): KubeObject {
    const wanted = this.#hooks.finalize !== undefined
    if (this.#hasFinalizer(parent) === wanted) return parent
    if (wanted && parent.metadata.deletionTimestamp !== undefined) return parent
    return this.#setFinalizer(parent, wanted)
  }

  /** Works on the object as it is now, whatever the caches say. */
  #setFinalizer(parent: KubeObject, wanted: boolean): KubeObject {
    const { store } = this.#options
    const live = store.get(parent)
    if (live === undefined || live.metadata.uid !== parent.metadata.uid) {
      throw new Error(`can't ${wanted ? 'add' : 'remove'} finalizer for ${parent.kind} ${objectKey(parent)}: not found`)
    }
    if (this.#hasFinalizer(live) === wanted) return live
    const others = (live.metadata.finalizers ?? []).filter((name) => name !== this.#finalizer)
    return store.patchMetadata(live, { finalizers: wanted ? [...others, this.#finalizer] : others }, this.#by)
  }

  /** Children are left to the garbage collector once it has taken over, and after our own finalizer is gone. */
  #mayManageWhileDeleting(parent: KubeObject): boolean {
    const collected = ['foregroundDeletion', 'orphan'].some(
      (name) => parent.metadata.finalizers?.includes(name) === true,
    )
    return !collected && this.#hasFinalizer(parent) && this.#hooks.finalize !== undefined
  }

  #selectorOf(parent: KubeObject): LabelMatch | undefined {
    if (this.#options.spec.spec.generateSelector === true) {
      return (labels) => labels?.[LABEL_UID] === parent.metadata.uid
    }
    const selector = parent.spec?.['selector'] as LabelSelector | undefined
    return isEmptySelector(selector) ? undefined : compileSelector(selector)
  }

  #requiredSelector(parent: KubeObject): LabelMatch {
    const selector = this.#selectorOf(parent)
    if (selector === undefined)
      throw new Error('.spec.selector must have either matchLabels, matchExpressions, or both')
    return selector
  }

  #ownerReference(parent: KubeObject): OwnerReference {
    const { apiVersion, kind } = this.#parents
    const { name, uid } = parent.metadata
    return { apiVersion, kind, name, uid, controller: true, blockOwnerDeletion: true }
  }

  #claimChildren(parent: KubeObject): Grouped<KubeObject> {
    const { store, cache } = this.#options
    const selects = this.#requiredSelector(parent)
    const claimer = { store, by: this.#by, parent, owner: this.#ownerReference(parent), selects }
    const groups = new Map<string, Map<string, KubeObject>>()
    for (const resource of this.#children) {
      const candidates = cache.list(resource).filter((child) => {
        if (this.#parents.namespaced && child.metadata.namespace !== parent.metadata.namespace) return false
        const owner = controllerOf(child)
        return owner === undefined || owner.uid === parent.metadata.uid
      })
      const claimed = claim(claimer, candidates).map((child) => [objectKey(child), child] as const)
      groups.set(`${resource.apiVersion} ${resource.kind}`, new Map(claimed.sort(([a], [b]) => (a < b ? -1 : 1))))
    }
    return groups
  }

  /** The children the answer asks for, with the label that ties them to the parent. */
  #desiredChildren(parent: KubeObject, answer: SyncAnswer): Grouped<Draft> {
    const key = objectKey(parent)
    const selects = this.#requiredSelector(parent)
    const children = answer.children.map((child) => {
      const metadata: Draft = isObject(child['metadata']) ? { ...child['metadata'] } : {}
      if ((metadata['namespace'] ?? '') === '') {
        if (parent.metadata.namespace === undefined) delete metadata['namespace']
        else metadata['namespace'] = parent.metadata.namespace
      }
      const labels = (metadata['labels'] ?? {}) as Record<string, string>
      if (Object.values(labels).some((value) => typeof value !== 'string')) {
        throw new Error(`invalid labels on desired child ${child['kind']} ${metadata['name']}`)
      }
      if (this.#options.spec.spec.generateSelector === true && labels[LABEL_UID] === undefined) {
        metadata['labels'] = { ...labels, [LABEL_UID]: parent.metadata.uid }
      }
      return { ...child, metadata }
    })
    const desired = groupDesired(children, (what) => this.#violation(key, `${what} is listed twice: the last one wins`))
    for (const [kind, group] of desired) {
      if (!this.#children.some((resource) => kind === `${resource.apiVersion} ${resource.kind}`)) {
        this.#violation(key, `children of ${kind} are not in childResources: created, and then never seen again`)
      }
      for (const [name, child] of group) {
        if (!selects((child['metadata'] as Draft)['labels'] as Record<string, string> | undefined)) {
          throw new Error(`labels on desired child ${kind} ${name} don't match parent selector`)
        }
      }
    }
    return desired
  }

  /** False when the parent is gone by now, which makes the sync a success. */
  #updateStatus(key: string, parent: KubeObject, wanted: Draft): boolean {
    const { store } = this.#options
    const live = store.get(parent)
    if (live === undefined || live.metadata.uid !== parent.metadata.uid) return false
    const status = { ...wanted, observedGeneration: parent.metadata.generation ?? 0 }
    if (deepEqual(live.status, status)) return true
    try {
      const written = store.replaceStatus({ ...live, status }, this.#by)
      if (written === live) {
        this.#violation(
          key,
          'the API server drops or rewrites part of the status: one PUT per sync that changes nothing',
        )
      }
      return true
    } catch (error) {
      if (isReason(error, 'NotFound') || isReason(error, 'Conflict')) return false
      throw new Error(`can't update status for ${parent.kind} ${key}: ${(error as Error).message}`, { cause: error })
    }
  }

  async #callSync(
    parent: KubeObject,
    finalizing: boolean,
    observed: Grouped<KubeObject>,
    related: readonly { resource: Resource; objects: readonly KubeObject[] }[],
  ): Promise<SyncAnswer> {
    const hook: HookName = finalizing ? 'finalize' : 'sync'
    const webhook = this.#hooks[hook]
    if (webhook === undefined) throw new Error(`sync hook not defined for ${parent.kind} ${objectKey(parent)}`)
    const keyed = (objects: Iterable<KubeObject>): Record<string, KubeObject> =>
      Object.fromEntries(
        [...objects]
          .map((object) => [this.#objectKey(webhook, parent, object), object] as const)
          .sort(([a], [b]) => (a < b ? -1 : 1)),
      )
    const request = {
      controller: this.#snapshot,
      parent,
      children: Object.fromEntries(
        this.#children.map(({ apiVersion, kind }) => [
          kindKey(apiVersion, kind),
          keyed(observed.get(`${apiVersion} ${kind}`)?.values() ?? []),
        ]),
      ),
      related: Object.fromEntries(
        related.map(({ resource, objects }) => [kindKey(resource.apiVersion, resource.kind), keyed(objects)]),
      ),
      finalizing,
    }
    const groups = (map: Record<string, Record<string, KubeObject>>) =>
      writeObject(map, (group) => writeObject(group, writeOnce))
    const body =
      `{"controller":${writeOnce(request.controller)},"parent":${writeOnce(parent)},` +
      `"children":${groups(request.children)},"related":${groups(request.related)},"finalizing":${finalizing}}`
    return this.#call(hook, webhook, parent, request, body, decodeSync)
  }

  #callCustomize(parent: KubeObject): Promise<RelatedRule[]> {
    const request = { controller: this.#snapshot, parent }
    const body = `{"controller":${writeOnce(this.#snapshot)},"parent":${writeOnce(parent)}}`
    return this.#call('customize', this.#hooks.customize as Webhook, parent, request, body, decodeCustomize)
  }

  /** v2 keys say where an object is; v1 keys leave out a namespace the parent has too. */
  #objectKey(webhook: Webhook, parent: KubeObject, object: KubeObject): string {
    const relative = webhook.version === 'v1' && parent.metadata.namespace !== undefined
    return keyOf(object.metadata.name, relative ? undefined : object.metadata.namespace)
  }

  async #call<T>(
    hook: HookName,
    webhook: Webhook,
    parent: KubeObject,
    request: object,
    body: string,
    decode: (text: string, strict: boolean, surprise: (what: string) => void) => T,
  ): Promise<T> {
    const { clock, onCall } = this.#options
    const key = objectKey(parent)
    const about = { controller: this.name, hook, parent: key }
    const call = { at: clock.now(), ...about, requestBytes: Buffer.byteLength(body) }
    let text: string
    try {
      text = await webhook.call(body, this.#stop.signal)
    } catch (error) {
      const { message, status } = error as HookError
      onCall({ ...call, status, error: message }, { ...about, request, response: undefined, status })
      throw error
    }
    let failure: Error | undefined
    let answer: T | undefined
    try {
      answer = decode(text, webhook.strict, (what) => this.#violation(key, `${hook}: ${what}`))
    } catch (error) {
      failure = error as Error
      if (error instanceof DecodeError || error instanceof CrashError)
        this.#violation(key, `${hook}: ${failure.message}`)
    }
    const outcome = failure === undefined ? {} : { error: failure.message }
    onCall({ ...call, status: 200, ...outcome }, { ...about, request, response: parsed(text), status: 200 })
    if (failure !== undefined) throw failure
    return answer as T
  }

  #violation(key: string, what: string): void {
    this.#options.onViolation(`${this.name} ${key}: ${what}`)
  }
}

function writeOnce(object: object): string {
  let text = texts.get(object)
  if (text === undefined) {
    text = JSON.stringify(object)
    texts.set(object, text)
  }
  return text
}

function writeObject<T>(map: Record<string, T>, write: (value: T) => string): string {
  return `{${Object.entries(map)
    .map(([key, value]) => `${JSON.stringify(key)}:${write(value)}`)
    .join(',')}}`
}

function parsed(text: string): unknown {
  try {
    return JSON.parse(text)
  } catch {
    return text
  }
}

import type { LabelSelector } from './selector.js'

/** The part of Metacontroller's CompositeController resource the stand-in honours. */
export interface CompositeController {
  readonly apiVersion?: string
  readonly kind?: string
  readonly metadata: { readonly name: string }
  readonly spec: {
    readonly generateSelector?: boolean
    readonly resyncPeriodSeconds?: number
    readonly parentResource: {
      readonly apiVersion: string
      readonly resource: string
      readonly ignoreStatusChanges?: boolean
      readonly labelSelector?: LabelSelector
    }
    readonly childResources?: readonly {
      readonly apiVersion: string
      readonly resource: string
      readonly updateStrategy?: { readonly method?: string }
    }[]
    readonly hooks: {
      readonly sync?: HookSpec
      readonly customize?: HookSpec
      readonly finalize?: HookSpec
    }
  }
}

export interface HookSpec {
  readonly version?: 'v1' | 'v2'
  readonly webhook: {
    readonly url?: string
    readonly path?: string
    readonly service?: {
      readonly name: string
      readonly namespace: string
      readonly port?: number
      readonly protocol?: string
    }
    /** Go duration, default 10s. */
    readonly timeout?: string
    readonly responseUnMarshallMode?: 'loose' | 'strict'
  }
}

export type HookName = 'sync' | 'customize' | 'finalize'

/** One call of a hook. `status` is 0 when no answer came. */
export interface HookCall {
  readonly at: number
  readonly controller: string
  readonly hook: HookName
  readonly parent: string
  readonly status: number
  readonly error?: string
  readonly requestBytes?: number
}

export interface HookExchange {
  readonly controller: string
  readonly hook: HookName
  readonly parent: string
  readonly request: unknown
  /** Parsed where it is JSON, else the text; undefined when no 200 came. */
  readonly response: unknown
  readonly status: number
}

/** A sync that failed: what the real one writes as a SyncError event on the parent. */
export interface SyncError {
  readonly at: number
  readonly controller: string
  readonly parent: string
  readonly message: string
}

import type { JsonObject, KubernetesObject } from './kubernetes.js'

/** Objects of one kind by name (`namespace/name` for namespaced kinds). */
export type ObjectsByName = Readonly<Record<string, KubernetesObject>>

/** Body of a sync or finalize request, v2. */
export interface HookRequest {
  readonly controller?: unknown
  readonly parent: KubernetesObject
  readonly children: Readonly<Record<string, ObjectsByName>>
  readonly related: Readonly<Record<string, ObjectsByName>>
  readonly finalizing: boolean
}

/**
 * Answer to sync and finalize. Metacontroller deletes every child that `children` leaves out and replaces the whole
 * status, so both are always written. `resyncAfterSeconds` is finite and above 0. `finalized` only from finalize.
 */
export interface HookResponse {
  readonly status: JsonObject
  readonly children: readonly JsonObject[]
  readonly resyncAfterSeconds: number
  readonly finalized?: boolean
}

/** One rule of a customize answer. Selectors as in Kubernetes; neither selector nor names: every object. */
export interface RelatedRule {
  readonly apiVersion: string
  readonly resource: string
  readonly labelSelector?: JsonObject
}

export interface CustomizeResponse {
  readonly relatedResources: readonly RelatedRule[]
}

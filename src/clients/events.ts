import { createHash } from 'node:crypto'
import { hostname } from 'node:os'
import type { CoreV1Event, KubeConfig } from '@kubernetes/client-node'
import type { NewEvent } from '../api/kubernetes.js'
import type { Clock } from '../clock.js'
import { withDeadline } from './kubernetes.js'

/** Kubernetes Events: what `kubectl describe` shows below an object. */

/** `exists`: it had been written before. `refused`: the API server will not have it. `failed`: no answer, or an error. */
export type EventOutcome = 'created' | 'exists' | 'refused' | 'failed'

export interface EventWriter {
  /** Never rejects; `detail` says what went wrong. */
  write(event: NewEvent): Promise<{ readonly outcome: EventOutcome; readonly detail?: string }>
}

const COMPONENT = 'smart-storage-operator'
const NAME_PREFIX = 'tier-move-'
/** Events about cluster-scoped objects go here. */
const CLUSTER_NAMESPACE = 'default'
/** Longest message the API server takes. */
const MESSAGE_LIMIT = 1024
const TIMEOUT_MS = 3_000

/** The object as it is sent: its name follows from what it is about and its key. */
export function eventObject({ regarding, type, reason, message, key }: NewEvent, atMs: number) {
  const { kind, namespace, name, uid } = regarding
  const identity = JSON.stringify([kind, namespace, name, uid, key])
  const at = new Date(atMs)
  return {
    apiVersion: 'v1',
    kind: 'Event',
    metadata: {
      name: NAME_PREFIX + createHash('sha256').update(identity).digest('hex').slice(0, 32),
      namespace: namespace ?? CLUSTER_NAMESPACE,
    },
    involvedObject: regarding,
    type,
    reason,
    message: message.slice(0, MESSAGE_LIMIT),
    source: { component: COMPONENT, host: hostname() },
    reportingComponent: COMPONENT,
    reportingInstance: hostname(),
    firstTimestamp: at,
    lastTimestamp: at,
    count: 1,
  } satisfies CoreV1Event & { readonly kind: string }
}

export interface KubernetesEventsOptions {
  readonly config: KubeConfig
  readonly clock: Clock
  /** For each call, in ms. Default 3,000. */
  readonly timeoutMs?: number
}

/** Writes to the API server. */
export async function kubernetesEvents(options: KubernetesEventsOptions): Promise<EventWriter> {
  const kubernetes = await import('@kubernetes/client-node')
  const api = options.config.makeApiClient(kubernetes.CoreV1Api)
  const deadline = withDeadline(kubernetes, options.timeoutMs ?? TIMEOUT_MS)
  return {
    write: async (event) => {
      const body = eventObject(event, options.clock.now())
      try {
        await api.createNamespacedEvent({ namespace: body.metadata.namespace, body }, deadline)
        return { outcome: 'created' }
      } catch (error) {
        if (!(error instanceof kubernetes.ApiException)) return { outcome: 'failed', detail: 'no answer' }
        if (error.code === 409) return { outcome: 'exists' }
        const outcome = error.code >= 400 && error.code < 500 && error.code !== 429 ? 'refused' : 'failed'
        return { outcome, detail: `HTTP ${error.code}` }
      }
    },
  }
}

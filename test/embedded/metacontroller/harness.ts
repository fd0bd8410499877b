import { createServer, type IncomingMessage, type Server } from 'node:http'
import type { AddressInfo } from 'node:net'
import { SimulatedClock } from '../../../src/embedded/clock.js'
import {
  type CompositeController,
  type KubeObject,
  Metacontroller,
  type MetacontrollerOptions,
  ObjectStore,
  type ObjectStoreOptions,
} from '../../../src/embedded/metacontroller/index.js'

export const START = Date.UTC(2026, 0, 1)
export const API = 'test.example/v1'

export interface HookBody {
  readonly controller: object
  readonly parent: KubeObject
  readonly children: Record<string, Record<string, KubeObject>>
  readonly related: Record<string, Record<string, KubeObject>>
  readonly finalizing: boolean
}

export interface Answer {
  readonly status?: number
  readonly headers?: Record<string, string>
  /** Sent as it is when a string, else as JSON. */
  readonly body: unknown
}

/** Answers one hook. `gone` aborts when the caller hangs up. */
export type Handler = (body: HookBody, gone: AbortSignal) => Answer | object | Promise<Answer | object>

const widgets = {
  apiVersion: 'apiextensions.k8s.io/v1',
  kind: 'CustomResourceDefinition',
  metadata: { name: 'widgets.test.example' },
  spec: {
    group: 'test.example',
    scope: 'Cluster',
    names: { kind: 'Widget', plural: 'widgets' },
    versions: [
      {
        name: 'v1',
        served: true,
        subresources: { status: {} },
        schema: {
          openAPIV3Schema: {
            type: 'object',
            properties: {
              spec: {
                type: 'object',
                properties: {
                  size: { type: 'integer', minimum: 0 },
                  mode: { type: 'string', default: 'plain' },
                  note: { type: 'string' },
                  tags: { type: 'object', additionalProperties: { type: 'string' } },
                  steps: {
                    type: 'array',
                    items: {
                      type: 'object',
                      properties: { name: { type: 'string' }, pool: { type: 'string' }, done: { type: 'boolean' } },
                    },
                  },
                },
              },
              status: {
                type: 'object',
                properties: { observedGeneration: { type: 'integer' }, seen: { type: 'string' } },
              },
            },
          },
        },
      },
    ],
  },
}

const boxes = {
  apiVersion: 'apiextensions.k8s.io/v1',
  kind: 'CustomResourceDefinition',
  metadata: { name: 'boxes.test.example' },
  spec: {
    group: 'test.example',
    scope: 'Cluster',
    names: { kind: 'Box', plural: 'boxes' },
    versions: [{ name: 'v1', served: true, subresources: { status: {} } }],
  },
}

export const CRDS = [widgets, boxes]

/** Controller `boxes`: parent Box, child Widget, with the hooks named. */
export function boxController(
  hooks: readonly ('sync' | 'customize' | 'finalize')[],
  spec: Partial<CompositeController['spec']> = {},
  timeout = '10s',
): CompositeController {
  return controller('boxes', 'box', hooks, timeout, {
    parentResource: { apiVersion: API, resource: 'boxes', ignoreStatusChanges: true },
    childResources: [{ apiVersion: API, resource: 'widgets', updateStrategy: { method: 'InPlace' } }],
    ...spec,
  })
}

/** Controller `widgets`: parent Widget, no children. */
export function widgetController(
  hooks: readonly ('sync' | 'finalize')[],
  spec: Partial<CompositeController['spec']> = {},
): CompositeController {
  return controller('widgets', 'widget', hooks, '10s', {
    parentResource: { apiVersion: API, resource: 'widgets', ignoreStatusChanges: true },
    ...spec,
  })
}

function controller(
  name: string,
  path: string,
  hooks: readonly ('sync' | 'customize' | 'finalize')[],
  timeout: string,
  spec: Pick<CompositeController['spec'], 'parentResource'> & Partial<CompositeController['spec']>,
): CompositeController {
  const hook = (of: string) => ({
    version: 'v2' as const,
    webhook: { url: `http://hooks.example/${path}/${of}`, timeout },
  })
  return {
    apiVersion: 'metacontroller.k8s.io/v1alpha1',
    kind: 'CompositeController',
    metadata: { name },
    spec: { generateSelector: true, hooks: Object.fromEntries(hooks.map((of) => [of, hook(of)])), ...spec },
  }
}

export interface World {
  readonly clock: SimulatedClock
  readonly store: ObjectStore
  readonly mc: Metacontroller
  /** Bodies each path has received, in order. */
  readonly bodies: (path: string) => HookBody[]
  /** Lets simulated time pass. */
  readonly pass: (ms: number) => Promise<void>
  readonly box: (spec?: object, name?: string) => KubeObject
  readonly widget: (name: string) => KubeObject | undefined
  /** Writes since the last time this was asked. */
  readonly newWrites: () => string[]
  /** Another Metacontroller on the same store, as after a restart. */
  readonly restart: () => Promise<Metacontroller>
}

export async function world(
  teardown: (fn: () => Promise<unknown>) => void,
  controllers: readonly CompositeController[],
  handlers: Record<string, Handler>,
  options: Partial<MetacontrollerOptions> & { store?: never } = {},
  storeOptions: Partial<ObjectStoreOptions> = {},
): Promise<World> {
  const clock = new SimulatedClock(START)
  const store = new ObjectStore({ clock, schemas: CRDS, ...storeOptions })
  const received = new Map<string, HookBody[]>()
  const server = createServer((req, res) => {
    const path = req.url ?? ''
    const gone = new AbortController()
    res.on('close', () => gone.abort())
    void readJson(req)
      .then(async (body) => {
        const before = received.get(path)
        if (before === undefined) received.set(path, [body])
        else before.push(body)
        const handler = handlers[path]
        const answered =
          handler === undefined ? { status: 404, body: 'no such hook' } : await handler(body, gone.signal)
        const answer: Answer = 'body' in answered ? (answered as Answer) : { body: answered }
        const { status = 200, headers = {} } = answer
        res.writeHead(status, { 'content-type': 'application/json', ...headers })
        res.end(typeof answer.body === 'string' ? answer.body : JSON.stringify(answer.body))
      })
      .catch(() => res.destroy())
  })
  await listen(server)
  const baseUrl = `http://127.0.0.1:${(server.address() as AddressInfo).port}`
  const build = () => new Metacontroller({ clock, store, controllers, baseUrl, ...options })
  let running = build()
  const mc = running
  teardown(async () => {
    await running.stop()
    server.closeAllConnections()
    await new Promise((resolve) => server.close(resolve))
  })
  let seen = 0
  return {
    clock,
    store,
    mc,
    bodies: (path) => received.get(path) ?? [],
    pass: (ms) => clock.run(clock.now() + ms),
    box: (spec = {}, name = 'b') => store.create({ apiVersion: API, kind: 'Box', metadata: { name }, spec }),
    widget: (name) => store.get({ apiVersion: API, kind: 'Widget', name }),
    newWrites: () => {
      const fresh = store.writes.slice(seen).map(({ verb, kind, name, by }) => `${by}: ${verb} ${kind} ${name}`)
      seen = store.writes.length
      return fresh
    },
    restart: async () => {
      await running.stop()
      running = build()
      running.start()
      return running
    },
  }
}

async function readJson(req: IncomingMessage): Promise<HookBody> {
  const chunks: Buffer[] = []
  for await (const chunk of req) chunks.push(chunk as Buffer)
  return JSON.parse(Buffer.concat(chunks).toString()) as HookBody
}

function listen(server: Server): Promise<void> {
  return new Promise((resolve) => server.listen(0, '127.0.0.1', resolve))
}

/** A child as a hook answers it. */
export function widget(name: string, spec: object = { size: 1 }, metadata: object = {}): object {
  return { apiVersion: API, kind: 'Widget', metadata: { name, ...metadata }, spec }
}

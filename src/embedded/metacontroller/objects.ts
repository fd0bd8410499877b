import type { JsonObject } from './json.js'

export interface OwnerReference {
  readonly apiVersion: string
  readonly kind: string
  readonly name: string
  readonly uid: string
  readonly controller?: boolean
  readonly blockOwnerDeletion?: boolean
}

export interface ObjectMetadata {
  readonly name: string
  readonly namespace?: string
  readonly uid: string
  readonly resourceVersion: string
  /** Absent on built-in kinds that do not count generations (PersistentVolume, PersistentVolumeClaim, ...). */
  readonly generation?: number
  readonly creationTimestamp: string
  readonly deletionTimestamp?: string
  readonly labels?: Readonly<Record<string, string>>
  readonly annotations?: Readonly<Record<string, string>>
  readonly finalizers?: readonly string[]
  readonly ownerReferences?: readonly OwnerReference[]
  readonly managedFields?: readonly JsonObject[]
}

/** A stored object. Never changed in place (it is frozen): each write makes a new one. */
export interface KubeObject {
  readonly apiVersion: string
  readonly kind: string
  readonly metadata: ObjectMetadata
  readonly spec?: JsonObject
  readonly status?: JsonObject
  readonly [field: string]: unknown
}

/** What names an object. */
export interface ObjectRef {
  readonly apiVersion: string
  readonly kind: string
  readonly namespace?: string | undefined
  readonly name: string
}

/** A reference, or an object that stands for its own. */
export type Named =
  | ObjectRef
  | {
      readonly apiVersion: string
      readonly kind: string
      readonly metadata: { readonly name: string; readonly namespace?: string | undefined }
    }

export function refOf(named: Named): ObjectRef {
  const { apiVersion, kind } = named
  const { name, namespace } = 'metadata' in named ? named.metadata : named
  return { apiVersion, kind, name, ...(namespace === undefined ? {} : { namespace }) }
}

/** `namespace/name`, or `name` for cluster-scoped objects. */
export function keyOf(name: string, namespace: string | undefined): string {
  return namespace === undefined || namespace === '' ? name : `${namespace}/${name}`
}

export function objectKey(object: KubeObject): string {
  return keyOf(object.metadata.name, object.metadata.namespace)
}

export function controllerOf(object: KubeObject): OwnerReference | undefined {
  return object.metadata.ownerReferences?.find((reference) => reference.controller === true)
}

export function groupOf(apiVersion: string): string {
  const slash = apiVersion.indexOf('/')
  return slash < 0 ? '' : apiVersion.slice(0, slash)
}

/** Key of a kind in `children` and `related`: `Kind.version` for core, else `Kind.group/version`. */
export function kindKey(apiVersion: string, kind: string): string {
  return `${kind}.${apiVersion}`
}

export function timestamp(ms: number): string {
  return new Date(ms).toISOString().replace(/\.\d+Z$/, 'Z')
}

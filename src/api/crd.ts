import type { TSchema } from 'typebox'
import { stringify } from 'yaml'
import { GROUP, VERSION } from './names.js'
import { ReplicaTopologySpec, ReplicaTopologyStatus } from './replica-topology.js'
import { StoragePolicySpec, StoragePolicyStatus } from './storage-policy.js'

/** The part of OpenAPI v3 that a structural schema may use and ours do. */
export interface StructuralSchema {
  readonly description?: string
  readonly type: string
  readonly format?: string
  readonly enum?: readonly string[]
  readonly default?: unknown
  readonly properties?: Readonly<Record<string, StructuralSchema>>
  readonly required?: readonly string[]
  readonly items?: StructuralSchema
  readonly additionalProperties?: StructuralSchema
  readonly 'x-kubernetes-list-type'?: string
  readonly 'x-kubernetes-list-map-keys'?: readonly string[]
  readonly 'x-kubernetes-validations'?: readonly Validation[]
  readonly [bound: string]: unknown
}

/** One CEL rule; `fieldPath` is relative to where the rule stands and names the field the refusal points at. */
export interface Validation {
  readonly rule: string
  readonly message: string
  readonly fieldPath?: string
}

export interface PrinterColumn {
  readonly name: string
  readonly type: 'string' | 'integer' | 'boolean' | 'date'
  readonly jsonPath: string
  readonly description?: string
  /** 1: only with `-o wide`. */
  readonly priority?: 1
}

export interface CustomResourceDefinition {
  readonly apiVersion: 'apiextensions.k8s.io/v1'
  readonly kind: 'CustomResourceDefinition'
  readonly metadata: { readonly name: string }
  readonly spec: {
    readonly group: string
    readonly names: {
      readonly kind: string
      readonly listKind: string
      readonly plural: string
      readonly singular: string
      readonly shortNames: readonly string[]
      readonly categories: readonly string[]
    }
    readonly scope: 'Cluster'
    readonly versions: readonly [
      {
        readonly name: string
        readonly served: true
        readonly storage: true
        readonly schema: { readonly openAPIV3Schema: StructuralSchema }
        readonly subresources: { readonly status: Record<string, never> }
        readonly additionalPrinterColumns: readonly PrinterColumn[]
      },
    ]
  }
}

/** Keywords in the order they are written; any other in a schema is refused by `toStructural`. */
const KEYWORDS = [
  'description',
  'type',
  'format',
  'pattern',
  'minLength',
  'maxLength',
  'minimum',
  'maximum',
  'enum',
  'minItems',
  'maxItems',
  'maxProperties',
  'default',
  'properties',
  'required',
  'items',
  'additionalProperties',
  'x-kubernetes-list-type',
  'x-kubernetes-list-map-keys',
  'x-kubernetes-validations',
]

/**
 * The structural form of a TypeBox schema. A field with a default is not required: the API server fills it in before
 * it validates. Throws on what has no structural form, so that it fails here and not when the CRD is applied.
 */
export function toStructural(schema: TSchema, path = ''): StructuralSchema {
  const source = schema as unknown as Readonly<Record<string, unknown>>
  const foreign = Object.keys(source).filter((key) => !KEYWORDS.includes(key) && !key.startsWith('~'))
  if (foreign.length > 0) throw new Error(`${path || '.'}: no structural form of ${foreign.join(', ')}`)
  if (typeof source['type'] !== 'string') throw new Error(`${path || '.'}: a structural schema needs one type`)

  const target: Record<string, unknown> = {}
  for (const key of KEYWORDS) {
    const value = source[key]
    if (value === undefined) continue
    switch (key) {
      case 'properties': {
        const properties = Object.entries(value as Record<string, TSchema>)
        if (properties.length === 0) break
        target[key] = Object.fromEntries(properties.map(([name, s]) => [name, toStructural(s, `${path}.${name}`)]))
        break
      }
      case 'required': {
        const properties = source['properties'] as Record<string, Record<string, unknown>>
        const required = (value as readonly string[]).filter((name) => properties[name]?.['default'] === undefined)
        if (required.length > 0) target[key] = required
        break
      }
      case 'items':
        target[key] = toStructural(value as TSchema, `${path}[*]`)
        break
      case 'additionalProperties':
        target[key] = toStructural(value as TSchema, `${path}.*`)
        break
      default:
        target[key] = value
    }
  }
  if (target['properties'] !== undefined && target['additionalProperties'] !== undefined)
    throw new Error(`${path || '.'}: properties and additionalProperties exclude each other`)
  return target as unknown as StructuralSchema
}

interface Kind {
  readonly kind: string
  readonly plural: string
  readonly shortName: string
  readonly description: string
  readonly spec: TSchema
  readonly status: TSchema
  /** Rules over the whole object. */
  readonly validations?: readonly Validation[]
  readonly columns: readonly PrinterColumn[]
}

const condition = (type: string, field: string) => `.status.conditions[?(@.type=="${type}")].${field}`
const AGE: PrinterColumn = { name: 'Age', type: 'date', jsonPath: '.metadata.creationTimestamp' }

const STORAGE_POLICY: Kind = {
  kind: 'StoragePolicy',
  plural: 'storagepolicies',
  shortName: 'sp',
  description:
    'Moves the volumes of a storage class between NVMe and SATA pools of OpenEBS Mayastor, by their measured IOPS.',
  spec: StoragePolicySpec,
  status: StoragePolicyStatus,
  validations: [
    {
      // The slip of a copied selector. Other overlaps depend on the pools there are; the status reports those.
      rule:
        'has(self.spec.nvmePoolSelector.matchExpressions) || has(self.spec.sataPoolSelector.matchExpressions) || ' +
        '!has(self.spec.nvmePoolSelector.matchLabels) || !has(self.spec.sataPoolSelector.matchLabels) || ' +
        'self.spec.nvmePoolSelector.matchLabels != self.spec.sataPoolSelector.matchLabels',
      message: 'must differ from nvmePoolSelector: a pool that matches both belongs to neither tier',
      fieldPath: '.spec.sataPoolSelector',
    },
  ],
  columns: [
    { name: 'Phase', type: 'string', jsonPath: '.status.phase' },
    { name: 'Ready', type: 'string', jsonPath: condition('Ready', 'status') },
    { name: 'Reason', type: 'string', jsonPath: condition('Ready', 'reason'), description: 'Of the condition Ready.' },
    { name: 'Dry-Run', type: 'boolean', jsonPath: '.spec.dryRun', description: 'true: nothing is moved.' },
    { name: 'Class', type: 'string', jsonPath: '.spec.storageClassName' },
    { name: 'High', type: 'integer', jsonPath: '.spec.highWatermarkIOPS', description: 'High watermark, IOPS.' },
    { name: 'Low', type: 'integer', jsonPath: '.spec.lowWatermarkIOPS', description: 'Low watermark, IOPS.' },
    { name: 'Volumes', type: 'integer', jsonPath: '.status.volumes.total' },
    { name: 'NVMe', type: 'integer', jsonPath: '.status.volumes.nvme' },
    { name: 'SATA', type: 'integer', jsonPath: '.status.volumes.sata' },
    { name: 'Active', type: 'integer', jsonPath: '.status.migrations.active', description: 'Migrations running now.' },
    { name: 'Mixed', type: 'integer', jsonPath: '.status.volumes.mixed', priority: 1 },
    { name: 'Other', type: 'integer', jsonPath: '.status.volumes.other', priority: 1 },
    { name: 'Succeeded', type: 'integer', jsonPath: '.status.migrations.succeeded', priority: 1 },
    { name: 'Failed', type: 'integer', jsonPath: '.status.migrations.failed', priority: 1 },
    { name: 'Aborted', type: 'integer', jsonPath: '.status.migrations.aborted', priority: 1 },
    { name: 'Window', type: 'string', jsonPath: '.spec.samplingWindow', priority: 1 },
    { name: 'Cooldown', type: 'string', jsonPath: '.spec.cooldownPeriod', priority: 1 },
    { name: 'Message', type: 'string', jsonPath: condition('Ready', 'message'), priority: 1 },
    AGE,
  ],
}

const REPLICA_TOPOLOGY: Kind = {
  kind: 'ReplicaTopology',
  plural: 'replicatopologies',
  shortName: 'rt',
  description:
    'Where the replicas of one Mayastor volume are and where its policy wants them. Named as its persistent volume; written by the operator.',
  spec: ReplicaTopologySpec,
  status: ReplicaTopologyStatus,
  validations: [
    {
      // A journal, cordons and a raised count may stand for the old volume: another volume needs another object.
      rule: 'self.spec.volumeID == oldSelf.spec.volumeID',
      message: 'is immutable; delete the ReplicaTopology and let its policy create it for the other volume',
      fieldPath: '.spec.volumeID',
    },
  ],
  columns: [
    { name: 'Policy', type: 'string', jsonPath: '.spec.policy' },
    { name: 'Claim', type: 'string', jsonPath: '.spec.claimRef.name' },
    { name: 'Tier', type: 'string', jsonPath: '.status.tier', description: 'Where the volume is.' },
    { name: 'Wants', type: 'string', jsonPath: '.spec.decision.tier', description: 'Where it belongs.' },
    { name: 'Reason', type: 'string', jsonPath: '.spec.decision.reason', description: 'Why it is where it is.' },
    { name: 'Phase', type: 'string', jsonPath: '.status.migration.phase', description: 'Of the last migration.' },
    { name: 'Replicas', type: 'integer', jsonPath: '.status.volume.numReplicas' },
    { name: 'State', type: 'string', jsonPath: '.status.volume.state' },
    { name: 'Namespace', type: 'string', jsonPath: '.spec.claimRef.namespace', priority: 1 },
    { name: 'Direction', type: 'string', jsonPath: '.status.migration.direction', priority: 1 },
    { name: 'Step', type: 'string', jsonPath: '.status.migration.reason', priority: 1 },
    { name: 'Moved', type: 'integer', jsonPath: '.status.migration.replicasMoved', priority: 1 },
    { name: 'Of', type: 'integer', jsonPath: '.status.migration.replicasTotal', priority: 1 },
    { name: 'Rebuilt-%', type: 'integer', jsonPath: '.status.migration.current.rebuildPercent', priority: 1 },
    { name: 'Observed', type: 'string', jsonPath: condition('Observed', 'status'), priority: 1 },
    { name: 'Message', type: 'string', jsonPath: '.spec.decision.message', priority: 1 },
    AGE,
  ],
}

function render(kind: Kind): CustomResourceDefinition {
  const singular = kind.kind.toLowerCase()
  return {
    apiVersion: 'apiextensions.k8s.io/v1',
    kind: 'CustomResourceDefinition',
    metadata: { name: `${kind.plural}.${GROUP}` },
    spec: {
      group: GROUP,
      names: {
        kind: kind.kind,
        listKind: `${kind.kind}List`,
        plural: kind.plural,
        singular,
        shortNames: [kind.shortName],
        categories: ['smart-storage'],
      },
      scope: 'Cluster',
      versions: [
        {
          name: VERSION,
          served: true,
          storage: true,
          schema: {
            openAPIV3Schema: {
              description: kind.description,
              type: 'object',
              properties: {
                apiVersion: { type: 'string' },
                kind: { type: 'string' },
                metadata: { type: 'object' },
                spec: { description: 'What is wanted.', ...toStructural(kind.spec, '.spec') },
                status: { description: 'What was observed.', ...toStructural(kind.status, '.status') },
              },
              required: ['spec'],
              ...(kind.validations && { 'x-kubernetes-validations': kind.validations }),
            },
          },
          // Without it Metacontroller ignores the controller of this kind.
          subresources: { status: {} },
          additionalPrinterColumns: kind.columns,
        },
      ],
    },
  }
}

/** The CustomResourceDefinitions of the API. */
export const CRDS: readonly CustomResourceDefinition[] = [render(STORAGE_POLICY), render(REPLICA_TOPOLOGY)]

/** Each CRD as the file it is kept in, path relative to the repository. */
export function crdFiles(): readonly { readonly path: string; readonly text: string }[] {
  return CRDS.map((crd) => ({
    path: `manifests/crds/${crd.metadata.name}.yaml`,
    text:
      '# Generated from src/api by `npm run generate`. Do not edit.\n' +
      // kubectl reads YAML 1.1; a shared rule must not become an alias; one line a sentence keeps diffs readable.
      stringify(crd, { version: '1.1', aliasDuplicateObjects: false, lineWidth: 0 }),
  }))
}

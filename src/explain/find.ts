import type { JsonObject, KubernetesObject } from '../api/kubernetes.js'
import { MAYASTOR_CSI_DRIVER } from '../api/names.js'
import type { ClusterReader } from './cluster.js'
import { ExplainError, nothing } from './errors.js'
import { classOf, policyState } from './explanation.js'

/**
 * The ReplicaTopology somebody means by `name`: `namespace/claim`, the name of a persistent volume, the uuid of a
 * Mayastor volume, or the name of a claim in `namespace`. Rejects with ExplainError where there is none, and says why.
 */
export async function findTopology(reader: ClusterReader, name: string, namespace: string): Promise<KubernetesObject> {
  const [first = '', second, ...more] = name.split('/')
  if (more.length > 0) throw nothing(`"${name}" is no name of a claim or volume`)
  if (second !== undefined) return ofClaim(reader, first, second)
  // Mayastor's provisioner names a persistent volume `pvc-` and the uuid.
  const volume = (await reader.topology(name)) ?? (await reader.topology(`pvc-${name}`))
  return volume ?? (await ofClaim(reader, namespace, name))
}

async function ofClaim(reader: ClusterReader, namespace: string, name: string): Promise<KubernetesObject> {
  const claim = await reader.claim(namespace, name)
  if (claim === undefined) throw nothing(`there is no claim ${namespace}/${name}, nor a volume of that name`)
  const volume = (claim.spec as JsonObject | undefined)?.['volumeName']
  if (typeof volume !== 'string' || volume === '') {
    throw nothing(`claim ${namespace}/${name} is not bound to a volume yet`)
  }
  const topology = await reader.topology(volume)
  if (topology !== undefined) return topology
  throw nothing(`claim ${namespace}/${name} is bound to ${volume}, ${await whyNotManaged(reader, volume)}`)
}

/** Why a volume has no ReplicaTopology. Whoever may not read volumes is told less. */
async function whyNotManaged(reader: ClusterReader, name: string): Promise<string> {
  const volume = await reader.volume(name).catch((error: unknown) => {
    if (error instanceof ExplainError) return undefined
    throw error
  })
  if (volume === undefined) return 'which no StoragePolicy manages'
  const { csi, storageClassName = '' } = (volume.spec ?? {}) as {
    csi?: { driver?: string }
    storageClassName?: string
  }
  if (csi?.driver !== MAYASTOR_CSI_DRIVER)
    return `which is not a Mayastor volume but one of ${csi?.driver ?? 'another kind'}`
  const policies = (await reader.policies()).filter((policy) => classOf(policy) === storageClassName)
  if (policies.length === 0) return `whose storage class ${storageClassName} no StoragePolicy names`
  const states = policies.map(policyState)
  const said = states.find(({ ready }) => !ready) ?? states[0]
  return said?.ready === false
    ? `whose storage class ${storageClassName} belongs to StoragePolicy ${said.name}, which is not ready: ${said.message}`
    : `which StoragePolicy ${said?.name} has not taken up yet: look again in a minute`
}

import { mkdirSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import t, { type Test } from 'tap'
import { parse } from 'yaml'
import { ConfigExit, parseConfig } from '../../src/config.js'
import { HOOKS } from '../../src/metrics.js'
import { admit } from './admission.js'
import {
  folders,
  kustomize,
  localManifests,
  MANIFESTS,
  type Manifest,
  METACONTROLLER_CRDS,
  named,
  noKustomize,
  noMetacontrollerCrds,
  ofKind,
  parseObjects,
  render,
  walk,
} from './render.js'

const BASES = ['crds', 'operator', 'controllers', 'metacontroller']
const OVERLAYS = folders('overlays')
const OPERATOR = 'smart-storage-operator'

const kustomization = (folder: string): Manifest =>
  parse(readFileSync(join(MANIFESTS, folder, 'kustomization.yaml'), 'utf8'))
const container = (deployment: Manifest): Manifest => deployment.spec.template.spec.containers[0]
const urls = (controller: Manifest): [string, URL][] =>
  Object.entries<Manifest>(controller.spec.hooks).map(([hook, { webhook }]) => [hook, new URL(webhook.url)])
const optionsOf = (objects: readonly Manifest[]): Record<string, string> => {
  const [{ configMapRef }] = container(named(objects, 'Deployment', OPERATOR)).envFrom
  return named(objects, 'ConfigMap', configMapRef.name).data
}
const rules = (objects: readonly Manifest[]): Manifest[] =>
  ofKind(objects, 'ClusterRole')
    .filter(({ metadata }) => metadata.labels?.['rbac.storage.billyronks.io/aggregate-to-metacontroller'] === 'true')
    .flatMap((role) => role.rules)
const pods = (objects: readonly Manifest[]) => objects.filter((object) => object.spec?.template?.spec?.containers)

t.test('every kustomization lists every file beside it', async (t) => {
  const all = [...BASES, ...folders('components'), ...OVERLAYS]
  for (const folder of all) {
    const listed = [...walk(kustomization(folder))].map(([, value]) => value)
    const inline = listed.filter((value) => typeof value === 'string').join('\n')
    for (const file of readdirSync(join(MANIFESTS, folder))) {
      if (file !== 'kustomization.yaml') t.ok(inline.includes(file), `${folder}/${file}`)
    }
  }
})

t.test('every component is in an overlay', async (t) => {
  const used = new Set(OVERLAYS.flatMap((folder) => kustomization(folder).components ?? []))
  for (const folder of folders('components')) t.ok(used.has(`../../${folder}`), folder)
})

t.test('one thing alone comes from the internet, from a commit that cannot move', async (t) => {
  const remote = [...BASES, ...folders('components'), ...OVERLAYS].flatMap((folder) =>
    (kustomization(folder).resources ?? []).filter((resource: string) => resource.includes('://')),
  )
  t.equal(remote.length, 1)
  t.match(remote[0], /^https:\/\/raw\.githubusercontent\.com\/metacontroller\/metacontroller\/[0-9a-f]{40}\//)
})

t.test('kustomize', { skip: noKustomize }, async (t) => {
  for (const folder of [...BASES, ...OVERLAYS]) {
    t.test(folder, async (t) => {
      const objects = render(folder)
      t.ok(objects.length > 0)
      for (const { apiVersion, kind, metadata } of objects) t.ok(apiVersion && kind && metadata?.name, `${kind}`)
      const keys = objects.map(({ kind, metadata }) => `${kind} ${metadata.namespace ?? ''}/${metadata.name}`)
      t.strictSame(keys, [...new Set(keys)], 'each object once')
      t.notMatch(JSON.stringify(objects), /:latest|PRIVATE KEY/)

      for (const object of pods(objects)) t.test(`${object.kind} ${object.metadata.name}`, async (t) => pod(t, object))
      t.test('every pod is told where its files come from', async (t) => {
        for (const object of pods(objects)) {
          const { volumes = [], containers } = object.spec.template.spec
          const mounted = containers.flatMap(({ volumeMounts = [] }: Manifest) => volumeMounts)
          t.strictSame(
            mounted.map(({ name }: Manifest) => name).sort(),
            volumes.map(({ name }: Manifest) => name).sort(),
          )
          for (const mount of mounted) t.equal(mount.subPath, undefined, 'a subPath is never updated')
        }
      })
    })
  }

  for (const folder of OVERLAYS) {
    t.test(`${folder}: the parts fit together`, async (t) => {
      const objects = render(folder)
      const service = named(objects, 'Service', OPERATOR)
      const deployment = named(objects, 'Deployment', OPERATOR)
      const { namespace } = service.metadata
      const options = optionsOf(objects)
      const hooksPort = service.spec.ports.find(({ name }: Manifest) => name === 'hooks')
      const controllers = ofKind(objects, 'CompositeController')

      t.test('the controllers call the Service, as it serves', async (t) => {
        t.strictSame(controllers.map(({ metadata }) => metadata.name).sort(), ['replica-topology', 'storage-policy'])
        const scheme = options['HOOK_TLS_CERT_FILE'] === undefined ? 'http' : 'https'
        t.equal(hooksPort.appProtocol, scheme)
        t.equal((options['HOOK_TLS_KEY_FILE'] === undefined ? 'http' : 'https') as string, scheme, 'both or neither')
        for (const controller of controllers) {
          for (const [hook, url] of urls(controller)) {
            t.equal(url.protocol, `${scheme}:`)
            t.equal(url.host, `${OPERATOR}.${namespace}.svc:${hooksPort.port}`)
            t.ok(HOOKS.some((known) => url.pathname === `/hooks/${known}`))
            t.equal(url.pathname, `/hooks/${controller.metadata.name}/${hook}`)
            t.strictSame(
              controller.spec.endpointConfigs.map(({ host }: Manifest) => host),
              [url.host],
              'what is set for the host holds for this call',
            )
          }
        }
      })

      t.test('what Metacontroller presents is what the operator asks for', async (t) => {
        for (const controller of controllers) {
          const [{ caBundle, clientTLS, authorization }] = controller.spec.endpointConfigs
          t.equal(caBundle !== undefined, 'HOOK_TLS_CERT_FILE' in options, 'an authority')
          t.equal(clientTLS !== undefined, 'HOOK_CLIENT_CA_FILE' in options, 'a client certificate')
          t.equal(authorization !== undefined, 'HOOK_TOKEN_FILE' in options, 'a token')
        }
        const references = controllers.flatMap(({ spec }) => [...walk(spec.endpointConfigs)])
        for (const [path, value] of references) if (path.endsWith('.namespace')) t.equal(value, namespace, path)
        for (const [field, resource] of [
          ['secretRef', 'secrets'],
          ['configMapRef', 'configmaps'],
        ] as const) {
          const read = references.some(([path]) => path.endsWith(`.${field}`))
          const granted = rules(objects).filter(({ resources }) => resources.includes(resource))
          t.strictSame(
            granted.map(({ verbs }) => verbs),
            read ? [['get', 'list', 'watch']] : [],
            resource,
          )
        }
      })

      t.test('every file the operator is told of is mounted', async (t) => {
        const { volumes = [] } = deployment.spec.template.spec
        for (const [name, value] of Object.entries(options)) {
          if (!name.endsWith('_FILE')) continue
          const mount = container(deployment).volumeMounts.find(({ mountPath }: Manifest) =>
            value.startsWith(`${mountPath}/`),
          )
          const volume = volumes.find((candidate: Manifest) => candidate.name === mount?.name)
          const items = volume?.secret?.items.map(({ path }: Manifest) => `${mount.mountPath}/${path}`)
          t.ok(items?.includes(value), `${name}=${value}`)
        }
      })

      t.test('cert-manager fills the Secrets that are used', async (t) => {
        const certificates = ofKind(objects, 'Certificate')
        const made = certificates.map(({ spec }) => spec.secretName)
        for (const certificate of certificates) {
          const issuer = named(objects, 'Issuer', certificate.spec.issuerRef.name)
          t.ok(issuer, certificate.metadata.name)
          if (issuer.spec.ca) t.ok(made.includes(issuer.spec.ca.secretName))
        }
        const server = named(objects, 'Certificate', `${OPERATOR}-hooks`)
        if (server) t.strictSame(server.spec.dnsNames, [`${OPERATOR}.${namespace}.svc`])
        const used = new Set<unknown>()
        for (const [path, value] of walk([controllers, deployment.spec.template.spec.volumes])) {
          if (/secretRef\.name$|secretName$/.test(path)) used.add(value)
        }
        if (certificates.length > 0) for (const name of used) t.ok(made.includes(name as string), `${name}`)
      })

      t.test('names lead to objects, all in one namespace', async (t) => {
        t.ok(named(objects, 'Namespace', namespace))
        for (const object of objects) {
          if (object.metadata.labels?.['app.kubernetes.io/name'] !== OPERATOR) continue
          if (object.metadata.namespace !== undefined) t.equal(object.metadata.namespace, namespace, object.kind)
        }
        for (const binding of [...ofKind(objects, 'RoleBinding'), ...ofKind(objects, 'ClusterRoleBinding')]) {
          t.ok(named(objects, binding.roleRef.kind, binding.roleRef.name), binding.roleRef.name)
          for (const subject of binding.subjects) {
            const account = named(objects, subject.kind, subject.name)
            t.equal(account?.metadata.namespace, subject.namespace, subject.name)
          }
        }
        const labels = deployment.spec.template.metadata.labels
        for (const [what, selector] of [
          ['Service', service.spec.selector],
          ['PodDisruptionBudget', named(objects, 'PodDisruptionBudget', OPERATOR).spec.selector.matchLabels],
          ['NetworkPolicy', named(objects, 'NetworkPolicy', OPERATOR).spec.podSelector.matchLabels],
          ['Deployment', deployment.spec.selector.matchLabels],
        ]) {
          t.match(labels, selector, `${what} selects the pods`)
          t.ok(Object.keys(selector).length > 0, what)
        }
      })

      t.test('the image is of the version of the package', async (t) => {
        const { version } = JSON.parse(readFileSync(join(process.cwd(), 'package.json'), 'utf8'))
        for (const object of pods(objects)) {
          const { image } = container(object)
          if (image.startsWith(OPERATOR)) t.equal(image, `${OPERATOR}:${version}`)
        }
      })

      t.test('ports have their agreed names and numbers', async (t) => {
        const numbers = { hooks: 8082, metrics: 8080, health: 8081 }
        const ofService = service.spec.ports.map(({ name, port }: Manifest) => [name, port])
        t.strictSame(Object.fromEntries(ofService), numbers)
        const ofPod = container(deployment).ports.map((port: Manifest) => [port.name, port.containerPort])
        t.strictSame(Object.fromEntries(ofPod), numbers)
        const config = parseConfig([], {}, { podNamespace: () => undefined })
        t.strictSame(
          { hooks: config.hookAddr.port, metrics: config.metricsAddr.port, health: config.healthAddr.port },
          numbers,
        )
        for (const { ports } of named(objects, 'NetworkPolicy', OPERATOR).spec.ingress) {
          for (const { port } of ports) t.ok(port in numbers, port)
        }
      })

      t.test('a stopping pod may finish its calls', async (t) => {
        const { terminationGracePeriodSeconds } = deployment.spec.template.spec
        const longest = controllers
          .flatMap(({ spec }) => Object.values<Manifest>(spec.hooks))
          .map(({ webhook }) => Number(/^(\d+)s$/.exec(webhook.timeout)?.[1]))
        t.ok(
          terminationGracePeriodSeconds >= container(deployment).lifecycle.preStop.sleep.seconds + Math.max(...longest),
        )
      })

      t.test('every option is one of the operator', async (t) => {
        const known = knownOptions()
        for (const name of Object.keys(options)) t.ok(known.has(name), name)
        t.doesNotThrow(() => parseConfig([], options, { podNamespace: () => undefined }))
      })
    })
  }

  t.test("every overlay's CompositeControllers fit Metacontroller's CRD", { skip: noMetacontrollerCrds }, async (t) => {
    const crd = named(
      parseObjects(readFileSync(METACONTROLLER_CRDS, 'utf8')),
      'CustomResourceDefinition',
      'compositecontrollers.metacontroller.k8s.io',
    )
    for (const folder of OVERLAYS) {
      for (const controller of ofKind(render(folder), 'CompositeController')) {
        t.strictSame(admit(crd, controller).problems, [], `${folder}: ${controller.metadata.name}`)
      }
    }
    const [controller] = ofKind(render('overlays/mutual-tls'), 'CompositeController')
    const { endpointConfigs } = controller.spec
    const spec = { ...controller.spec, endpointConfigs: [{ ...endpointConfigs[0], clientTls: {} }] }
    t.match(admit(crd, { ...controller, spec }).problems, [/clientTls: unknown field/], 'what judges refuses')
  })

  t.test('overlays/another-namespace leaves nothing in the usual one', async (t) => {
    const objects = render('overlays/another-namespace')
    for (const [path, value] of walk(objects)) {
      if (/description$/.test(path)) continue
      if (typeof value === 'string') t.notMatch(value, /smart-storage-system/, path)
    }
    t.ok(named(objects, 'Namespace', 'storage-tiering'))
  })

  t.test('an overlay of your own can say everything in one place', async (t) => {
    const path = join(localManifests(), 'overlays/your-own')
    mkdirSync(path)
    t.teardown(() => rmSync(path, { recursive: true }))
    const components = ['hook-tls', 'hook-token', 'monitoring']
    const own = {
      resources: ['../default'],
      components: components.map((name) => `../../components/${name}`),
      images: [{ name: OPERATOR, newName: 'example.test/tiering', newTag: '1.2.3' }],
      configMapGenerator: [
        {
          name: `${OPERATOR}-options`,
          namespace: 'smart-storage-system',
          behavior: 'merge',
          literals: ['PROMETHEUS_URL=https://thanos.example.test/prefix', 'DRY_RUN=true'],
        },
      ],
    }
    writeFileSync(join(path, 'kustomization.yaml'), JSON.stringify(own))
    const objects = parseObjects(kustomize(path))
    t.match(optionsOf(objects), {
      PROMETHEUS_URL: 'https://thanos.example.test/prefix',
      DRY_RUN: 'true',
      LOG_JSON: 'true',
      HOOK_TLS_CERT_FILE: /tls\.crt$/,
      HOOK_TOKEN_FILE: /tokens$/,
    })
    t.equal(container(named(objects, 'Deployment', OPERATOR)).image, 'example.test/tiering:1.2.3')
    t.equal(ofKind(objects, 'PrometheusRule').length, 1)
  })
})

/** The restricted profile of the Pod Security Standards, and what a pod of ours has beyond that. */
function pod(t: Test, object: Manifest): void {
  const { spec } = object.spec.template
  t.match(spec.securityContext, { runAsNonRoot: true, seccompProfile: { type: 'RuntimeDefault' } })
  t.ok(spec.securityContext.runAsUser > 0)
  for (const field of ['hostNetwork', 'hostPID', 'hostIPC']) t.notOk(spec[field], field)
  t.equal(typeof spec.automountServiceAccountToken, 'boolean', 'says whether it needs a token')
  t.ok(spec.serviceAccountName)
  for (const { hostPath } of spec.volumes ?? []) t.notOk(hostPath)
  for (const {
    image,
    securityContext,
    resources,
    startupProbe,
    livenessProbe,
    readinessProbe,
    ports,
  } of spec.containers) {
    t.match(image, /:v?\d+\.\d+\.\d+$/, 'a full version')
    t.strictSame(securityContext, {
      allowPrivilegeEscalation: false,
      readOnlyRootFilesystem: true,
      capabilities: { drop: ['ALL'] },
    })
    for (const bound of ['requests', 'limits']) t.hasProps(resources[bound], ['cpu', 'memory'], bound)
    const names = ports.map(({ name }: Manifest) => name)
    for (const probe of [startupProbe, livenessProbe, readinessProbe]) t.ok(names.includes(probe.httpGet.port))
  }
}

/** As environment variables; from what --help prints. */
function knownOptions(): ReadonlySet<string> {
  try {
    parseConfig(['--help'], {})
  } catch (error) {
    if (!(error instanceof ConfigExit)) throw error
    const names = [...error.message.matchAll(/^ {2}--([a-z-]+)/gm)].map(([, name]) => name as string)
    return new Set(names.map((name) => name.toUpperCase().replaceAll('-', '_')))
  }
  throw new Error('--help did not end the program')
}

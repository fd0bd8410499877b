import type { FastifyPluginAsync } from 'fastify'
import type { PolicyRoutes } from '../../src/server.js'

/** Decides where the replicas of every volume of a policy belong: its status and one ReplicaTopology a volume. */
export const policySync: FastifyPluginAsync<PolicyRoutes> = async (app, { calls, policy, report }) => {
  app.post('/hooks/storage-policy/sync', async (request, reply) => {
    const bytes = request.body as ArrayBuffer
    const { body, summary } = await calls.run(reply, (signal) => policy.sync(bytes, signal))
    report('sync', summary, request.log)
    return reply.type('application/json').send(body)
  })
}

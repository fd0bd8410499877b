import type { FastifyPluginAsync } from 'fastify'
import type { CustomizeRoutes } from '../../src/server.js'
import { customizeToWire } from '../../src/wire.js'

/** Says which objects a policy's sync needs to see: volumes, pools, the other policies and labelled claims. */
export const policyCustomize: FastifyPluginAsync<CustomizeRoutes> = async (app, { customize }) => {
  app.post('/hooks/storage-policy/customize', async (request, reply) => {
    const answer = await customize(request.body)
    return reply.type('application/json').send(customizeToWire(answer))
  })
}

namespace KvNode.Raft.Transport;

/// <summary>One request and its reply on a connection of their own.</summary>
internal static class ControlExchange
{
    private static readonly PooledFrameMemory Memory = new();

    public static async Task<ControlReply> AskAsync(
        PeerChannel channel, PeerIdentity peer, ControlRequest request, CancellationToken cancellation)
    {
        Invariant.Check(request.Body.Length <= TransportLimits.ControlBytesMax);
        using var exchange = new FrameExchange(channel, Memory, TransportLimits.ControlBytesMax);
        await exchange.SendAsync(FrameType.Ask, request.Kind, default, request.Body, cancellation);
        var (header, payload) = await exchange.ReceiveAsync(FrameType.Answer, FrameType.Answer, cancellation);
        return new ControlReply(header.Flags, Take(payload), peer.ClusterId, peer.NodeId);
    }

    public static async Task AnswerAsync(
        PeerChannel channel,
        IPeerSink sink,
        PeerIdentity caller,
        ulong clusterId,
        TransportOptions options,
        CancellationToken stopping)
    {
        using var exchange = new FrameExchange(channel, Memory, TransportLimits.ControlBytesMax);
        using var time = new CancellationTokenSource(options.HandshakeTimeout, options.Time);
        using var either = CancellationTokenSource.CreateLinkedTokenSource(stopping, time.Token);
        var (header, payload) = await exchange.ReceiveAsync(FrameType.Ask, FrameType.Ask, either.Token);
        var isMember = clusterId != 0 && caller.ClusterId == clusterId;
        var reply = await sink.OnControlAsync(
            new ControlRequest(header.Flags, Take(payload), caller.NodeId, isMember), stopping);
        Invariant.Check(reply.Body.Length <= TransportLimits.ControlBytesMax);
        await exchange.SendAsync(FrameType.Answer, reply.Status, default, reply.Body, stopping);
    }

    private static byte[] Take(FrameBuffer? payload)
    {
        var bytes = payload?.Memory.ToArray() ?? [];
        payload?.Release();
        return bytes;
    }
}

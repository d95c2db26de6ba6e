namespace KvNode.Raft.Transport;

/// <summary>What a peer is about to be sent.</summary>
/// <param name="Position">The last entry that the snapshot holds.</param>
/// <param name="Term">The sender's term as leader.</param>
/// <param name="Id">Names these very bytes: two snapshots at one position made apart have two ids. A receiver resumes
/// only under the id it began with.</param>
/// <param name="SizeBytes">Length of the content.</param>
/// <param name="Meta">The rest, for the receiving driver: configuration, meta.json, and the content's hash, which
/// <see cref="ISnapshotReceiver.CompleteAsync"/> checks. At most <see cref="TransportLimits.ControlBytesMax"/>.</param>
internal readonly record struct SnapshotOffer(
    EntryId Position, ulong Term, UInt128 Id, long SizeBytes, ReadOnlyMemory<byte> Meta);

/// <summary>A snapshot's content at the sender.</summary>
internal interface ISnapshotSource
{
    /// <summary>Fills the buffer from an offset on; fewer bytes only at the end.</summary>
    ValueTask<int> ReadAsync(long offset, Memory<byte> buffer, CancellationToken cancellation);
}

/// <summary>What came of a transfer. ON THE WIRE.</summary>
internal enum SnapshotVerdict : byte
{
    /// <summary>Received whole, checked and taken over.</summary>
    Installed = 1,

    /// <summary>Not wanted: the receiver has this or newer, or is busy with another.</summary>
    Refused = 2,

    /// <summary>Received whole, but the content is not what the offer says.</summary>
    Damaged = 3,
}

/// <summary>
/// One snapshot on its way in. Called on an I/O thread, one call at a time, and must not block it: disk work goes elsewhere
/// and is awaited. The sender is not read from until the call completes, so memory stays bounded.
/// </summary>
internal interface ISnapshotReceiver : IAsyncDisposable
{
    /// <summary>How much of the offered content is here already, from an earlier connection; the transfer goes on there.</summary>
    long HaveBytes { get; }

    /// <summary>Cancelled when something newer takes this transfer's place: the connection is closed.</summary>
    CancellationToken Displaced { get; }

    /// <param name="chunk">Valid until the call completes. Chunks come in order and without gaps, from
    /// <see cref="HaveBytes"/> on.</param>
    ValueTask WriteAsync(long offset, ReadOnlyMemory<byte> chunk, CancellationToken cancellation);

    /// <summary>All is here: checks the content against the offer and installs it.</summary>
    ValueTask<SnapshotVerdict> CompleteAsync(CancellationToken cancellation);
}

/// <summary>The receiving end of <see cref="SnapshotSender"/>.</summary>
internal static class SnapshotTransfer
{
    private static readonly PooledFrameMemory Memory = new();

    public static FrameSlots Slots(in SnapshotOffer offer)
    {
        var slots = new FrameSlots();
        slots[0] = offer.Term;
        slots[1] = offer.Position.Term;
        slots[2] = offer.Position.Index;
        slots[3] = (ulong)offer.SizeBytes;
        slots[4] = (ulong)offer.Id;
        slots[5] = (ulong)(offer.Id >> 64);
        return slots;
    }

    /// <summary>Serves one connection. Holds one chunk in memory at a time. A sender that falls silent is not waited for: what
    /// it has sent is kept for its next connection, but another's transfer may begin.</summary>
    public static async Task ReceiveAsync(
        PeerChannel channel, IPeerSink sink, ulong from, TransportOptions options, CancellationToken stopping)
    {
        using var watch = new SilenceWatch(options, stopping);
        using var exchange = new FrameExchange(channel, Memory, TransportLimits.ChunkBytes, watch);
        SnapshotOffer offer;
        using (var time = new CancellationTokenSource(options.HandshakeTimeout, options.Time))
        using (var either = CancellationTokenSource.CreateLinkedTokenSource(watch.Token, time.Token))
        {
            var (header, payload) = await exchange.ReceiveAsync(FrameType.Offer, FrameType.Offer, either.Token);
            offer = Offer(in header, payload?.Memory.ToArray() ?? []);
            payload?.Release();
        }

        var receiver = sink.OnSnapshotOffer(from, offer);
        if (receiver is null)
        {
            await SendVerdictAsync(exchange, SnapshotVerdict.Refused, watch.Token);
            return;
        }

        // Let go of before the sender hears the outcome: its next snapshot finds nothing of this one in its way.
        SnapshotVerdict verdict;
        await using (receiver)
        {
            using var either = CancellationTokenSource.CreateLinkedTokenSource(watch.Token, receiver.Displaced);
            await ReceiveContentAsync(exchange, receiver, offer.SizeBytes, either.Token);
            verdict = await receiver.CompleteAsync(stopping);
        }

        await SendVerdictAsync(exchange, verdict, watch.Token);
    }

    private static SnapshotOffer Offer(in PeerFrameHeader header, byte[] meta) => (long)header.Slots[3] < 0
        ? throw new PeerProtocolException("a snapshot of impossible size")
        : new SnapshotOffer(
            new EntryId(header.Slots[1], header.Slots[2]),
            header.Slots[0],
            new UInt128(header.Slots[5], header.Slots[4]),
            (long)header.Slots[3],
            meta);

    private static async Task ReceiveContentAsync(
        FrameExchange exchange, ISnapshotReceiver receiver, long sizeBytes, CancellationToken stopping)
    {
        var have = receiver.HaveBytes;
        Invariant.Check(have >= 0 && have <= sizeBytes);
        var slots = new FrameSlots();
        slots[0] = (ulong)have;
        await exchange.SendAsync(FrameType.Resume, flags: 0, slots, default, stopping);
        while (true)
        {
            var (header, payload) = await exchange.ReceiveAsync(FrameType.Chunk, FrameType.Done, stopping);
            try
            {
                var bytes = payload?.Memory ?? default;
                var isDone = header.Type == FrameType.Done;
                if (isDone ? have != sizeBytes : header.Slots[0] != (ulong)have || bytes.Length > sizeBytes - have)
                {
                    throw new PeerProtocolException("a piece of a snapshot that does not continue it");
                }

                if (isDone)
                {
                    return;
                }

                await receiver.WriteAsync(have, bytes, stopping);
                have += bytes.Length;
            }
            finally
            {
                payload?.Release();
            }
        }
    }

    private static ValueTask SendVerdictAsync(FrameExchange exchange, SnapshotVerdict verdict, CancellationToken stopping) =>
        exchange.SendAsync(FrameType.Verdict, (byte)verdict, default, default, stopping);
}

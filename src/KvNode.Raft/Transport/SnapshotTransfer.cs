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

    /// <param name="chunk">Valid until the call completes. Chunks come in order and without gaps, from
    /// <see cref="HaveBytes"/> on.</param>
    ValueTask WriteAsync(long offset, ReadOnlyMemory<byte> chunk, CancellationToken cancellation);

    /// <summary>All is here: checks the content against the offer and installs it.</summary>
    ValueTask<SnapshotVerdict> CompleteAsync(CancellationToken cancellation);
}

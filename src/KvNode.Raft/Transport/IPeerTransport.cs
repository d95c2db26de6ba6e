using KvNode.Raft.Core;

namespace KvNode.Raft.Transport;

/// <summary>
/// The way from this node to the other members, and from them to this node. It loses, delays and reorders as a network does;
/// what arrives is whole, checked and from a node that has proven to belong to the cluster.
/// </summary>
/// <remarks>
/// <para>All members may be called from any thread and none of them blocks; the Send methods and <see cref="Flush"/> are meant
/// for whoever has the turn, who sends during it and flushes at its end.</para>
/// <para>What is sent to one peer arrives in the order sent for as long as the way to it stays the same. Each
/// <see cref="IPeerSink.OnConnected"/> names a new way: what was sent before may be lost, or arrive later than what is
/// sent after.</para>
/// </remarks>
internal interface IPeerTransport : IDisposable
{
    /// <summary>Begins to accept and to connect. Once, before anything else.</summary>
    void Start(IPeerSink sink);

    /// <summary>This node's cluster from now on: a joining node learns it by <see cref="AskAsync"/>. Until then it is 0, and
    /// nothing but requests goes in or out.</summary>
    void SetCluster(ulong clusterId);

    /// <summary>
    /// Whom to be connected with: replaces the set before. This node's own id is ignored. A peer that is no longer named is
    /// disconnected; one whose address changed is called at the new one from the next connection on.
    /// </summary>
    void SetPeers(IReadOnlyDictionary<ulong, string> addressById);

    /// <summary>
    /// Encodes a message into the peer's buffer; it leaves with the next <see cref="Flush"/>. All of it is copied. Dropped
    /// when there is no connection. An Append beyond the buffer's limit is dropped and reported by
    /// <see cref="IPeerSink.OnUnreachable"/>.
    /// </summary>
    void Send(in Message message);

    /// <summary>A batch of writes on its way to the leader, for it to merge into an entry.</summary>
    /// <param name="term">The term of the leader it is meant for: another one must not take it.</param>
    /// <returns>False when there is no connection or too much waits already: nothing was taken, try again later.</returns>
    bool SendForward(ulong to, ulong term, ulong incarnation, ulong sequence, ReadOnlySpan<byte> payload);

    /// <summary>Tells a node that a forwarded batch was not taken into the log.</summary>
    /// <param name="incarnation">The start of that node which the batch is from: its numbers begin anew with each.</param>
    /// <param name="reason">The driver's own number.</param>
    void SendForwardRefused(ulong to, ulong incarnation, ulong sequence, byte reason, string? text);

    /// <summary>
    /// The end of a turn: one non-blocking send for each peer that has something. What the socket does not take now is sent
    /// when it is writable again.
    /// </summary>
    void Flush();

    bool IsConnected(ulong peer);

    /// <summary>Bytes that the peer's socket has not taken yet.</summary>
    long QueuedBytes(ulong peer);

    /// <summary>One request to whoever listens at an address, and its reply: joining, and administration passed to the leader.</summary>
    /// <param name="expected">The node that the request is for: another one there does not hear it. 0: whoever is there.</param>
    /// <exception cref="TransportException">No connection, no proof, or no reply; <see cref="TransportException.MayHaveArrived"/>
    /// says whether the request may have been carried out.</exception>
    ValueTask<ControlReply> AskAsync(
        string address, ControlRequest request, CancellationToken cancellation, ulong expected = 0);

    /// <summary>
    /// Brings a snapshot to a peer, on a connection of its own; resumes where the receiver stands when that breaks.
    /// Completes when the receiver has installed or refused it.
    /// </summary>
    /// <returns>What the receiver said.</returns>
    /// <exception cref="TransportException">Several connections in a row brought no progress.</exception>
    ValueTask<SnapshotVerdict> SendSnapshotAsync(
        ulong peer, SnapshotOffer offer, ISnapshotSource source, CancellationToken cancellation);
}

/// <summary>A connection to a peer could not be made or broke; the message says for people what happened.</summary>
internal sealed class TransportException(string message, Exception? cause = null) : IOException(message, cause)
{
    /// <summary>False: what was to be said has certainly not been heard.</summary>
    public bool MayHaveArrived { get; init; }
}

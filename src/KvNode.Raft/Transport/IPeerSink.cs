using KvNode.Raft.Core;

namespace KvNode.Raft.Transport;

/// <summary>
/// What the transport delivers to. Calls come from I/O threads, those of one connection one at a time, those of several at the
/// same time, and <see cref="OnUnreachable"/> also from within <see cref="IPeerTransport.Send"/>: an implementation puts things
/// into a mailbox and returns, and deals with them in <see cref="OnDelivered"/> at the earliest, which alone is called without
/// any of the transport's locks. It never blocks and never throws.
/// </summary>
internal interface IPeerSink
{
    /// <summary>A message; <see cref="Message.From"/> is the peer that has proven its id.</summary>
    /// <param name="message">
    /// The array behind <see cref="Message.Entries"/> is the connection's and is valid during the call only; copy the
    /// <see cref="LogEntry"/> values. Their payloads, and <see cref="Message.Membership"/>, lie in <paramref name="buffer"/>.
    /// </param>
    /// <param name="buffer">What holds the message's bytes; null when it has none. The sink owns it from here and
    /// calls <see cref="FrameBuffer.Release"/> when nothing points into it any more.</param>
    void OnMessage(in Message message, FrameBuffer? buffer);

    /// <summary>A batch that another node's clients wait for.</summary>
    /// <param name="term">The term of the leader it is meant for.</param>
    /// <param name="payload">Lies in <paramref name="buffer"/>.</param>
    /// <param name="buffer">As in <see cref="OnMessage"/>; null for an empty payload.</param>
    void OnForward(
        ulong from, ulong term, ulong incarnation, ulong sequence, ReadOnlyMemory<byte> payload, FrameBuffer? buffer);

    void OnForwardRefused(ulong from, ulong incarnation, ulong sequence, byte reason, string text);

    /// <summary>All messages, forwards and refusals that one piece of received bytes held have been delivered. A connection that
    /// ends may leave it out.</summary>
    void OnDelivered();

    /// <summary>The way to a peer broke and there is no other, or an Append was dropped because too much waits.</summary>
    void OnUnreachable(ulong peer);

    /// <summary>There is a way to a peer, or a new way in place of the one before.</summary>
    /// <param name="address">Where the peer says it is reached.</param>
    void OnConnected(ulong peer, string address);

    /// <summary>A request from a node of this cluster, or from one that wants to join (<see cref="ControlRequest.From"/>).</summary>
    ValueTask<ControlReply> OnControlAsync(ControlRequest request, CancellationToken cancellation);

    /// <summary>A peer wants to send a snapshot. Null refuses it.</summary>
    ISnapshotReceiver? OnSnapshotOffer(ulong from, SnapshotOffer offer);
}

using System.Buffers;
using KvNode.Native;
using KvNode.Raft.Core;
using KvNode.Raft.Transport;

namespace KvNode.Raft.Engine;

internal enum EventKind : byte
{
    /// <summary>From a peer.</summary>
    Message,

    /// <summary>A peer's batch for this leader. A: from, B: incarnation, C: sequence, D: the term it is meant for.</summary>
    Forward,

    /// <summary>A: from.</summary>
    ForwardRefused,

    /// <summary>A: peer.</summary>
    Unreachable,

    /// <summary>A: peer.</summary>
    Connected,

    /// <summary>A: sequence.</summary>
    Persisted,

    /// <summary>A: index.</summary>
    Applied,

    /// <summary>A: peer; State: the entries, LogEntry[].</summary>
    Fetched,

    /// <summary>State: what to do within a turn.</summary>
    Action,
}

/// <summary>Something for the driver to deal with.</summary>
internal struct Event
{
    public EventKind Kind;
    public ulong A;
    public ulong B;
    public ulong C;
    public ulong D;
    public Message Message;
    public LogEntry[]? Rented;
    public ReadOnlyMemory<byte> Payload;
    public FrameBuffer? Buffer;
    public object? State;
}

/// <summary>
/// Everything on its way to the driver: events, and this node's batches, which stay open until they are taken; and whose turn
/// it is. Many producers, one consumer at a time, no allocation once it has grown.
/// </summary>
/// <remarks>
/// Who has the turn looks here again after giving it back. So whoever adds something needs to wake nobody while a turn is
/// taken, and none is missed: it was added before that look, or the turn was seen to be free.
/// </remarks>
internal sealed class Mailbox
{
    private readonly Lock _gate = new();
    private readonly Queue<ProposalBatch> _batches = new(64);
    private List<Event> _events = new(64);
    private readonly Signal _signal = new();
    private bool _closed;
    private volatile int _batchCount;

    // Taken from the start: the first turn is the owner's.
    private int _turnTaken = 1;
    private volatile bool _isEnding;

    /// <summary>Batches that wait to be taken.</summary>
    public int BatchCount => _batchCount;

    /// <summary>Whether there is something to do. Batches may be unwanted: there is no room for them.</summary>
    public bool HasWork(bool wantsBatches)
    {
        lock (_gate)
        {
            return _events.Count > 0 || (wantsBatches && _batches.Count > 0);
        }
    }

    /// <summary>Turns until nothing waits, or another thread has the turn, who then sees to it. Any thread, after
    /// <see cref="Open"/>.</summary>
    /// <param name="turn">After an exception out of it there is no turn any more.</param>
    /// <param name="wantsBatches">Whether a turn could take batches now.</param>
    /// <param name="mustLeave">Asked after each turn: the thread has other work, and the owner goes on.</param>
    public void TakeTurns(Action turn, Func<bool> wantsBatches, Func<bool>? mustLeave = null)
    {
        while (TryBeginTurn())
        {
            turn();
            Volatile.Write(ref _turnTaken, 0);
            if (_isEnding || !HasWork(wantsBatches()))
            {
                return;
            }

            if (mustLeave is not null && mustLeave())
            {
                Wake();
                return;
            }
        }
    }

    /// <summary>Other threads may take turns from now on. The owner, who has the first one.</summary>
    public void Open() => Volatile.Write(ref _turnTaken, 0);

    /// <summary>The owner takes the turn for good: no other thread begins one any more.</summary>
    /// <returns>False when it was given up: the turn under way may never end.</returns>
    public bool TryTakeLastTurn(Func<bool> giveUp)
    {
        _isEnding = true;
        while (!giveUp())
        {
            if (TryBeginTurn())
            {
                return true;
            }

            Thread.Sleep(1);
        }

        return false;
    }

    public void Post(in Event item)
    {
        Add(item);
        Wake();
    }

    public void Post(EventKind kind, ulong a) => Post(new Event { Kind = kind, A = a });

    public void Post(Action action) => Post(new Event { Kind = EventKind.Action, State = action });

    /// <summary>As <see cref="Post(in Event)"/>, by a thread that takes the turn itself soon, or calls <see cref="Wake"/>.</summary>
    public void Add(in Event item)
    {
        lock (_gate)
        {
            _events.Add(item);
        }
    }

    /// <summary>Wakes the owner, unless somebody has the turn, who will see what is new.</summary>
    public void Wake()
    {
        if (Volatile.Read(ref _turnTaken) == 0)
        {
            _signal.Set();
        }
    }

    /// <summary>False when closed.</summary>
    public bool TryPropose(ProposalBatch batch)
    {
        lock (_gate)
        {
            if (_closed)
            {
                return false;
            }

            _batches.Enqueue(batch);
            _batchCount = _batches.Count;
        }

        Wake();
        return true;
    }

    public bool TryTakeBatch(out ProposalBatch? batch)
    {
        lock (_gate)
        {
            var any = _batches.TryDequeue(out batch);
            _batchCount = _batches.Count;
            return any;
        }
    }

    private bool TryBeginTurn() => Interlocked.CompareExchange(ref _turnTaken, 1, 0) == 0;

    /// <summary>Exchanges the gathered events for an empty list.</summary>
    public void TakeEvents(ref List<Event> empty)
    {
        lock (_gate)
        {
            (_events, empty) = (empty, _events);
        }
    }

    /// <summary>The owner waits for an event, a batch (if they are wanted) or the time limit. While another thread has the turn: for
    /// that limit, or until it is woken. Called without having the turn.</summary>
    /// <param name="limitMs">How long at most; -1: for ever. Asked, as <paramref name="wantsBatches"/>, when every turn from now on
    /// wakes the owner if it must.</param>
    public void Wait(Func<int> limitMs, Func<bool> wantsBatches)
    {
        _signal.Reset();
        if (Volatile.Read(ref _turnTaken) != 0)
        {
            // Whoever has it may be about to do what is due: not even then without a pause.
            var limit = limitMs();
            _signal.Wait(limit > 0 ? limit : 1);
        }
        else if (!HasWork(wantsBatches()))
        {
            _signal.Wait(limitMs());
        }
    }

    /// <summary>Takes no more batches.</summary>
    public void Close()
    {
        lock (_gate)
        {
            _closed = true;
        }

        _signal.Set();
    }
}

/// <summary>What the transport delivers, as events. The driver's owner sees to it that a turn follows.</summary>
internal abstract class MailboxSink(Mailbox mailbox)
{
    public void OnMessage(in Message message, FrameBuffer? buffer)
    {
        var item = new Event { Kind = EventKind.Message, Message = message, Buffer = buffer };
        if (!message.Entries.IsEmpty)
        {
            // The array is the connection's own; the payloads stay in the buffer.
            item.Rented = ArrayPool<LogEntry>.Shared.Rent(message.Entries.Length);
            message.Entries.CopyTo(item.Rented);
            item.Message = message with { Entries = item.Rented.AsMemory(0, message.Entries.Length) };
        }

        mailbox.Add(item);
    }

    public void OnForward(
        ulong from, ulong term, ulong incarnation, ulong sequence, ReadOnlyMemory<byte> payload, FrameBuffer? buffer) =>
        mailbox.Add(new Event
        {
            Kind = EventKind.Forward,
            A = from,
            B = incarnation,
            C = sequence,
            D = term,
            Payload = payload,
            Buffer = buffer,
        });

    public void OnForwardRefused(ulong from, ulong incarnation, ulong sequence, byte reason, string text) =>
        mailbox.Add(new Event { Kind = EventKind.ForwardRefused, A = from, B = sequence, C = incarnation, D = reason, State = text });

    public void OnUnreachable(ulong peer) => mailbox.Post(EventKind.Unreachable, peer);

    public void OnConnected(ulong peer, string address) => mailbox.Post(EventKind.Connected, peer);
}

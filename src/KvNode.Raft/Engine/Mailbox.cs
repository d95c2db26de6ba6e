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

    /// <summary>State: what to do on the raft thread.</summary>
    Action,
}

/// <summary>Something for the raft thread to deal with.</summary>
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
/// Everything on its way to the raft thread: events, and this node's batches, which stay open until the thread takes them.
/// Many producers, one consumer, no allocation once it has grown.
/// </summary>
internal sealed class Mailbox
{
    private readonly Lock _gate = new();
    private readonly Queue<ProposalBatch> _batches = new(64);
    private List<Event> _events = new(64);
    private readonly Signal _signal = new();
    private bool _closed;
    private volatile int _batchCount;

    /// <summary>Batches that wait to be taken.</summary>
    public int BatchCount => _batchCount;

    /// <summary>True when there is nothing to do.</summary>
    public bool IsIdle
    {
        get
        {
            lock (_gate)
            {
                return _events.Count == 0 && _batches.Count == 0;
            }
        }
    }

    public void Post(in Event item)
    {
        lock (_gate)
        {
            _events.Add(item);
        }

        _signal.Set();
    }

    public void Post(EventKind kind, ulong a) => Post(new Event { Kind = kind, A = a });

    public void Post(Action action) => Post(new Event { Kind = EventKind.Action, State = action });

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

        _signal.Set();
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

    /// <summary>Exchanges the gathered events for an empty list.</summary>
    public void TakeEvents(ref List<Event> empty)
    {
        lock (_gate)
        {
            (_events, empty) = (empty, _events);
        }
    }

    /// <summary>Waits for an event, a batch (if they are wanted) or the time limit.</summary>
    public void Wait(int timeoutMs, bool forBatches)
    {
        _signal.Reset();
        lock (_gate)
        {
            if (_events.Count > 0 || (_batches.Count > 0 && forBatches))
            {
                return;
            }
        }

        _signal.Wait(timeoutMs);
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

/// <summary>What the transport delivers, as events.</summary>
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

        mailbox.Post(item);
    }

    public void OnForward(
        ulong from, ulong term, ulong incarnation, ulong sequence, ReadOnlyMemory<byte> payload, FrameBuffer? buffer) =>
        mailbox.Post(new Event
        {
            Kind = EventKind.Forward,
            A = from,
            B = incarnation,
            C = sequence,
            D = term,
            Payload = payload,
            Buffer = buffer,
        });

    public void OnForwardRefused(ulong from, ulong sequence, byte reason, string text) =>
        mailbox.Post(new Event { Kind = EventKind.ForwardRefused, A = from, B = sequence, C = reason, State = text });

    public void OnUnreachable(ulong peer) => mailbox.Post(EventKind.Unreachable, peer);

    public void OnConnected(ulong peer, string address) => mailbox.Post(EventKind.Connected, peer);
}

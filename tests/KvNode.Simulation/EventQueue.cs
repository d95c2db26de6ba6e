namespace KvNode.Simulation;

internal enum EventType : byte
{
    /// <summary>The node's clock asks for a turn.</summary>
    Tick,

    /// <summary>Something waits in the node's mailbox.</summary>
    Turn,

    /// <summary>Data: a <see cref="Packet"/>.</summary>
    Deliver,

    /// <summary>The disk has done what was handed over.</summary>
    Disk,

    Apply,

    /// <summary>The state machine makes its state durable.</summary>
    Checkpoint,

    /// <summary>Data: a <see cref="KvNode.Raft.Core.FetchRequest"/>, boxed.</summary>
    Fetch,

    /// <summary>Data: a <see cref="SnapshotTransfer"/>.</summary>
    Snapshot,

    /// <summary>Data: a <see cref="SnapshotTransfer"/> that ended.</summary>
    SnapshotEnd,

    /// <summary>Number: the peer.</summary>
    Connect,

    Restart,

    /// <summary>Number: the client.</summary>
    Client,

    /// <summary>The next misfortune, or the next wish of the operator.</summary>
    Fault,
}

/// <param name="Life">Of the node that it is for: what is meant for an earlier life is lost.</param>
internal readonly record struct Event(
    long At, long Order, EventType Type, int Node, int Life, int Number, object? Data);

/// <summary>What will happen, earliest first; at the same time in the order of planning.</summary>
internal sealed class EventQueue
{
    private Event[] _heap = new Event[256];
    private long _order;

    public int Count { get; private set; }

    public void Add(long at, EventType type, int node, int life, int number = 0, object? data = null)
    {
        if (Count == _heap.Length)
        {
            Array.Resize(ref _heap, Count * 2);
        }

        var item = new Event(at, _order++, type, node, life, number, data);
        var place = Count++;
        while (place > 0)
        {
            var parent = (place - 1) >> 2;
            if (!IsBefore(item, _heap[parent]))
            {
                break;
            }

            _heap[place] = _heap[parent];
            place = parent;
        }

        _heap[place] = item;
    }

    public Event Take()
    {
        var first = _heap[0];
        var last = _heap[--Count];
        _heap[Count] = default;
        if (Count > 0)
        {
            Sink(last);
        }

        return first;
    }

    private void Sink(in Event item)
    {
        var place = 0;
        while (true)
        {
            var child = (place << 2) + 1;
            if (child >= Count)
            {
                break;
            }

            var end = Math.Min(child + 4, Count);
            for (var other = child + 1; other < end; other++)
            {
                child = IsBefore(_heap[other], _heap[child]) ? other : child;
            }

            if (!IsBefore(_heap[child], item))
            {
                break;
            }

            _heap[place] = _heap[child];
            place = child;
        }

        _heap[place] = item;
    }

    private static bool IsBefore(in Event left, in Event right) =>
        left.At < right.At || (left.At == right.At && left.Order < right.Order);
}

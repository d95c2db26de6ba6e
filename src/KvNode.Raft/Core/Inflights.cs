namespace KvNode.Raft.Core;

/// <summary>
/// Appends sent to one peer and not yet acknowledged, oldest first: a ring with a limit by messages and one by bytes.
/// </summary>
/// <remarks>A message may overflow the byte limit once; then the window is full.</remarks>
internal sealed class Inflights(int messagesMax, long bytesMax)
{
    private Slot[] _slots = [];
    private int _start;

    public int Count { get; private set; }

    public long Bytes { get; private set; }

    public bool IsFull => Count >= messagesMax || (bytesMax > 0 && Bytes >= bytesMax);

    /// <param name="lastIndex">Last entry of the message; not below that of the one before.</param>
    public void Add(ulong lastIndex, long bytes)
    {
        Invariant.Check(!IsFull);
        if (Count == _slots.Length)
        {
            Grow();
        }

        _slots[(_start + Count) % _slots.Length] = new Slot(lastIndex, bytes);
        Count++;
        Bytes += bytes;
    }

    /// <summary>The peer has everything up to an index: frees the messages that end there or before.</summary>
    public void FreeThrough(ulong index)
    {
        while (Count > 0 && _slots[_start].LastIndex <= index)
        {
            Bytes -= _slots[_start].Bytes;
            _start = (_start + 1) % _slots.Length;
            Count--;
        }
    }

    public void Clear()
    {
        Count = 0;
        Bytes = 0;
        _start = 0;
    }

    private void Grow()
    {
        var grown = new Slot[Math.Min(Math.Max(4, _slots.Length * 2), messagesMax)];
        for (var i = 0; i < Count; i++)
        {
            grown[i] = _slots[(_start + i) % _slots.Length];
        }

        _slots = grown;
        _start = 0;
    }

    private readonly record struct Slot(ulong LastIndex, long Bytes);
}

namespace KvNode.Server.Commands;

/// <summary>Copies of keys, end to end in one buffer. One thread at a time.</summary>
internal sealed class KeyBatch(int keysMax, int bytesMax)
{
    private readonly List<int> _ends = [];
    private byte[] _bytes = new byte[4096];

    public int Count => _ends.Count;

    /// <summary>At one of its limits; it takes one more all the same, as one key may be over the bytes.</summary>
    public bool IsFull => Count >= keysMax || Length >= bytesMax;

    /// <summary>The key added last; empty when there is none. Until the next <see cref="Add"/>.</summary>
    public ReadOnlySpan<byte> Last => Count == 0 ? default : this[Count - 1];

    private int Length => Count == 0 ? 0 : _ends[^1];

    public ReadOnlySpan<byte> this[int index]
    {
        get
        {
            var start = index == 0 ? 0 : _ends[index - 1];
            return _bytes.AsSpan(start, _ends[index] - start);
        }
    }

    public void Add(ReadOnlySpan<byte> key)
    {
        var end = Length + key.Length;
        if (end > _bytes.Length)
        {
            Array.Resize(ref _bytes, Math.Max(end, _bytes.Length * 2));
        }

        key.CopyTo(_bytes.AsSpan(Length));
        _ends.Add(end);
    }

    public void Clear() => _ends.Clear();
}

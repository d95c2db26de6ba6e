namespace KvNode.Storage.Snapshots;

/// <summary>Where a snapshot's records come from: every key once, in ascending byte order. One thread at a
/// time.</summary>
/// <remarks>The spans are asked for again for each piece of a large value, and must then give the same bytes; they need
/// to live only until the next call on the source.</remarks>
public interface IRecordSource : IDisposable
{
    /// <summary>Goes to the next record; the first call goes to the first.</summary>
    bool MoveNext();

    ReadOnlySpan<byte> Key { get; }

    ValueTag Tag { get; }

    /// <summary>The stored value without its tag byte.</summary>
    ReadOnlySpan<byte> Value { get; }
}

/// <summary>A view of the keyspace as a snapshot's source. Owns the view: both end together.</summary>
public sealed class KeyspaceRecordSource(KeyspaceView view) : IRecordSource
{
    private readonly KeyCursor _cursor = view.Scan(default);

    public ReadOnlySpan<byte> Key => _cursor.Key;

    public ValueTag Tag => _cursor.Tag;

    public ReadOnlySpan<byte> Value => _cursor.Value;

    public bool MoveNext() => _cursor.MoveNext();

    public void Dispose()
    {
        _cursor.Dispose();
        view.Dispose();
    }
}

namespace KvNode.Storage;

/// <summary>What kind of value a key holds. PERSISTED as the value's first byte (see README, value tag).</summary>
public enum ValueTag : byte
{
    /// <summary>A string without expiry; the payload follows.</summary>
    String = 0x00,

    /// <summary>A string with expiry: absolute milliseconds (8 bytes), expiry id (8 bytes), payload. Reserved.</summary>
    ExpiringString = 0x01,

    /// <summary>Collections are 0x10 + type: collection id, count, optional expiry. Reserved.</summary>
    Hash = 0x10,
    List = 0x11,
    Set = 0x12,
    SortedSet = 0x13,
}

/// <summary>Which keys a range walk covers, and in which direction.</summary>
/// <remarks>Bounds are byte strings in exact byte order. An empty <see cref="End"/> with <see cref="HasEnd"/> false means
/// "to the last key".</remarks>
public readonly ref struct KeyRange
{
    /// <summary>Inclusive lower bound; empty = from the first key (the empty key included).</summary>
    public ReadOnlySpan<byte> Start { get; init; }

    /// <summary>When true the key equal to <see cref="Start"/> is left out.</summary>
    public bool StartExclusive { get; init; }

    /// <summary>Exclusive upper bound, when <see cref="HasEnd"/>.</summary>
    public ReadOnlySpan<byte> End { get; init; }

    public bool HasEnd { get; init; }

    /// <summary>Walk from the last key of the range to the first.</summary>
    public bool Descending { get; init; }
}

/// <summary>Walks a range of one view. One thread at a time; dispose before the view.</summary>
public abstract class KeyCursor : IDisposable
{
    /// <summary>Goes to the next key in the walk's direction; false at the end. The first call goes to the first.</summary>
    public abstract bool MoveNext();

    /// <summary>Valid until the next call on this cursor.</summary>
    public abstract ReadOnlySpan<byte> Key { get; }

    /// <summary>The value's payload without its tag; valid until the next call on this cursor.</summary>
    public abstract ReadOnlySpan<byte> Value { get; }

    public abstract ValueTag Tag { get; }

    public void Dispose()
    {
        Dispose(disposing: true);
        GC.SuppressFinalize(this);
    }

    protected abstract void Dispose(bool disposing);
}

/// <summary>One consistent, ordered picture of the keyspace.</summary>
/// <remarks>Spans handed out live until the view is disposed (read views) or until the next write (the write
/// transaction, which is itself a view of what it has written so far). One thread at a time.</remarks>
public abstract class KeyspaceView : IDisposable
{
    /// <summary>Number of keys; O(1) and exact.</summary>
    public abstract long Count { get; }

    /// <summary>Reads a key. The payload comes without its tag.</summary>
    public abstract bool TryGet(ReadOnlySpan<byte> key, out ReadOnlySpan<byte> value, out ValueTag tag);

    public bool TryGet(ReadOnlySpan<byte> key, out ReadOnlySpan<byte> value) => TryGet(key, out value, out _);

    public bool Exists(ReadOnlySpan<byte> key) => TryGet(key, out _, out _);

    /// <summary>Opens a walk. The bounds are copied.</summary>
    public abstract KeyCursor Scan(KeyRange range);

    public void Dispose()
    {
        Dispose(disposing: true);
        GC.SuppressFinalize(this);
    }

    protected abstract void Dispose(bool disposing);
}

/// <summary>The one writer's view: reads what it wrote. Nothing is visible to others before it is published.</summary>
public abstract class WriteView : KeyspaceView
{
    /// <summary>Stores a string value, replacing whatever the key held.</summary>
    public abstract void Put(ReadOnlySpan<byte> key, ReadOnlySpan<byte> value);

    /// <returns>True when the key existed.</returns>
    public abstract bool Delete(ReadOnlySpan<byte> key);

    /// <summary>Removes every key; cheap whatever their number.</summary>
    public abstract void Clear();
}

/// <summary>Limits of keys and values.</summary>
public static class StoreLimits
{
    /// <summary>Longest key, in bytes.</summary>
    public const int KeyBytesMax = 65_536;

    /// <summary>Longest value any node may be configured to accept, in bytes.</summary>
    public const int ValueBytesMax = 512 * 1024 * 1024;

    /// <summary>Most bytes of the engine's own state: a snapshot carries them in its header.</summary>
    public const int EngineStateBytesMax = 48 * 1024;
}

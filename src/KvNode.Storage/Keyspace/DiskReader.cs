using System.Diagnostics.CodeAnalysis;
using System.Runtime.CompilerServices;
using KvNode.Storage.Lmdb;

namespace KvNode.Storage;

/// <summary>One consistent picture of what is on disk, from <see cref="DiskKeyspace.RentReader"/> until it is returned.</summary>
/// <remarks>One thread at a time, any thread. Spans point into the map and live until the reader is returned. Keep it
/// short: pages that a rented reader may see are not reused, so the file grows while it is out. Use after the return
/// throws as long as nobody else has rented the same object; it is not otherwise detected.</remarks>
internal sealed class DiskReader
{
    private readonly LmdbTransaction _transaction;
    private readonly DiskDatabases _databases;
    private readonly List<DiskCursor> _idleCursors = [];
    private bool _open = true;
    private int _cursorsOut;

    /// <summary>Takes over a begun read transaction.</summary>
    public DiskReader(LmdbTransaction transaction, in DiskDatabases databases)
    {
        _transaction = transaction;
        _databases = databases;
    }

    /// <summary>The state record of this picture; one LMDB read per call.</summary>
    public DiskState State
    {
        get
        {
            EnsureOpen();
            if (!_transaction.TryGet(_databases.System, Layout.StateKey, out var record) ||
                !Layout.TryReadState(record, out var state, out _))
            {
                throw new DiskFormatException("the state record is absent or damaged");
            }

            return state;
        }
    }

    /// <summary>The engine's own bytes in this picture; empty when there are none. Valid until the reader is
    /// returned.</summary>
    public ReadOnlySpan<byte> EngineState
    {
        get
        {
            EnsureOpen();
            _ = _transaction.TryGet(_databases.System, Layout.EngineKey, out var bytes);
            return bytes;
        }
    }

    /// <summary>LMDB records that user keys take: themselves, links and chunks.</summary>
    public long Records
    {
        get
        {
            EnsureOpen();
            return (long)(_transaction.Statistics(_databases.Keys).Entries +
                _transaction.Statistics(_databases.Buckets).Entries);
        }
    }

    /// <summary>Reads a key of any length. The value is as stored, tag byte first.</summary>
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public bool TryGet(scoped ReadOnlySpan<byte> key, out ReadOnlySpan<byte> value)
    {
        EnsureOpen();

        // One comparison for both ends: 0 wraps round to the largest number.
        return (uint)(key.Length - 1) < Layout.ShortKeyBytesMax
            ? _transaction.TryGet(_databases.Keys, key, out value)
            : TryGetSpecial(key, out value);
    }

    /// <summary>A cursor over all keys, not yet on any. Dispose it before the reader is returned.</summary>
    public DiskCursor OpenCursor()
    {
        EnsureOpen();
        DiskCursor cursor;
        if (_idleCursors.Count > 0)
        {
            cursor = _idleCursors[^1];
            _idleCursors.RemoveAt(_idleCursors.Count - 1);
            cursor.Renew();
        }
        else
        {
            cursor = new DiskCursor(this);
        }

        _cursorsOut++;
        return cursor;
    }

    internal LmdbCursor OpenKeyCursor() => _transaction.OpenCursor(_databases.Keys);

    internal LmdbCursor OpenBucketCursor() => _transaction.OpenCursor(_databases.Buckets);

    internal void Renew(LmdbCursor cursor) => _transaction.Renew(cursor);

    internal void TakeBack(DiskCursor cursor)
    {
        _cursorsOut--;
        _idleCursors.Add(cursor);
    }

    /// <summary>Takes the newest snapshot. Pool only.</summary>
    internal void Begin()
    {
        _transaction.Renew();
        _open = true;
    }

    /// <summary>Lets the snapshot go. Pool only.</summary>
    internal void End()
    {
        EnsureOpen();
        if (_cursorsOut != 0)
        {
            ThrowCursorsOut();
        }

        _open = false;
        _transaction.Reset();
    }

    /// <summary>Frees the slot. Pool only, and only for a reader that is not rented.</summary>
    internal void Destroy()
    {
        _open = false;
        foreach (var cursor in _idleCursors)
        {
            cursor.Destroy();
        }

        _transaction.Dispose();
    }

    private bool TryGetSpecial(scoped ReadOnlySpan<byte> key, out ReadOnlySpan<byte> value)
    {
        if (key.IsEmpty)
        {
            return _transaction.TryGet(_databases.System, Layout.EmptyKey, out value);
        }

        if (!_transaction.TryGet(_databases.Keys, Layout.FirstPhysical(key), out value))
        {
            return false;
        }

        Span<byte> physical = stackalloc byte[Layout.LinkBytes];
        var rest = key[Layout.LinkBytes..];
        while (true)
        {
            var target = Layout.BucketPhysical(physical, Layout.ReadBucketId(value), rest);
            if (!_transaction.TryGet(_databases.Buckets, target, out value))
            {
                return false;
            }

            if (!Layout.IsLink(target))
            {
                return true;
            }

            rest = rest[Layout.ChunkBytes..];
        }
    }

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    private void EnsureOpen()
    {
        if (!_open)
        {
            ThrowReturned();
        }
    }

    [DoesNotReturn]
    private static void ThrowReturned() => throw new InvalidOperationException("this disk reader has been returned");

    [DoesNotReturn]
    private void ThrowCursorsOut() =>
        throw new InvalidOperationException($"{_cursorsOut} cursors of this disk reader are not disposed");
}

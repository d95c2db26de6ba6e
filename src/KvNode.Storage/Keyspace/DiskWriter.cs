using System.Buffers.Binary;
using KvNode.Storage.Lmdb;

namespace KvNode.Storage;

/// <summary>The one write transaction. Everything in it becomes durable and visible together, at <see cref="Commit"/>.</summary>
/// <remarks>
/// <para>Begun, used and ended on one thread, always the same dedicated one: LMDB's writer mutex belongs to the thread.
/// One transaction at a time. Keys in ascending order are fast, any order is right.</para>
/// <para>Every method may throw <see cref="MapFullException"/> (abort, <see cref="DiskKeyspace.GrowMap"/>, do it all
/// again), <see cref="DiskFullException"/> (abort; do it all again later), or another <see cref="LmdbException"/> or
/// <see cref="Native.SyncFailedException"/> (stop the node). After any of them only <see cref="Abort"/> or
/// <see cref="Dispose"/> may follow, and nothing of the transaction is kept.</para>
/// </remarks>
internal sealed class DiskWriter : IDisposable
{
    // A key of 65,536 bytes crosses 1 + (65,536 - 511) / 503 links.
    private const int LinksMax = 1 + ((StoreLimits.KeyBytesMax - Layout.LinkBytes) / Layout.ChunkBytes);

    private readonly DiskKeyspace _owner;
    private readonly byte[] _greatest = new byte[Layout.LinkBytes];
    private LmdbTransaction? _transaction;
    private LmdbCursor _keys = null!;
    private LmdbCursor? _bucketCursor;
    private DiskDatabases _databases;
    private DiskState _state;
    private ulong _nextBucketId;
    private int _threadId;

    // Invariant: no physical key in d is greater than _greatest[.._greatestLength]; 0 = d is empty.
    private int _greatestLength;

    internal DiskWriter(DiskKeyspace owner) => _owner = owner;

    /// <summary>True between begin and commit or abort.</summary>
    public bool IsActive => _transaction is not null;

    private LmdbCursor Buckets => _bucketCursor ??= _transaction!.OpenCursor(_databases.Buckets);

    /// <summary>Stores a value, tag byte first, replacing what the key held.</summary>
    /// <param name="key">0 to 65,536 bytes.</param>
    /// <param name="value">Copied.</param>
    public void Put(ReadOnlySpan<byte> key, ReadOnlySpan<byte> value) => Put(key, value, default);

    /// <summary>The same for a value whose bytes lie in two places, for instance tag and payload.</summary>
    public void Put(ReadOnlySpan<byte> key, ReadOnlySpan<byte> head, ReadOnlySpan<byte> tail)
    {
        if (key.Length > StoreLimits.KeyBytesMax)
        {
            throw new ArgumentOutOfRangeException(nameof(key), "the key is longer than 65,536 bytes");
        }

        var transaction = Active();
        if (key.IsEmpty)
        {
            PutEmptyKey(transaction, head, tail);
        }
        else if (key.Length <= Layout.ShortKeyBytesMax)
        {
            PutInKeys(key, head, tail);
        }
        else
        {
            PutLong(key, head, tail);
        }
    }

    /// <returns>True when the key existed.</returns>
    public bool Delete(ReadOnlySpan<byte> key)
    {
        var transaction = Active();
        if (key.IsEmpty)
        {
            var error = transaction.Delete(_databases.System, Layout.EmptyKey);
            if (error == LmdbNative.MDB_NOTFOUND)
            {
                return false;
            }

            Check(error, "delete");
            return true;
        }

        if (key.Length > Layout.ShortKeyBytesMax)
        {
            return DeleteLong(key);
        }

        if (!_keys.SeekExact(key))
        {
            return false;
        }

        Check(_keys.Delete(), "delete");
        return true;
    }

    /// <summary>Removes every key and all that hangs on keys. Cost: the pages, not the keys.</summary>
    public void Clear()
    {
        var transaction = Active();
        Check(transaction.Drop(_databases.Keys), "clear");
        Check(transaction.Drop(_databases.Buckets), "clear");
        Check(transaction.Drop(_databases.Collections), "clear");
        Check(transaction.Drop(_databases.Expiry), "clear");
        _ = Delete(default);
        _keys.Dispose();
        _bucketCursor?.Dispose();
        OpenCursors(transaction);
    }

    /// <summary>What the content will stand for once committed, and the engine's own bytes as of then. Without a call both
    /// stay as they were.</summary>
    public void SetState(in DiskState state, ReadOnlySpan<byte> engineState = default)
    {
        var transaction = Active();
        _state = state;
        if (engineState.IsEmpty)
        {
            var error = transaction.Delete(_databases.System, Layout.EngineKey);
            Check(error == LmdbNative.MDB_NOTFOUND ? LmdbNative.MDB_SUCCESS : error, "delete of the engine's state");
        }
        else
        {
            Check(transaction.Put(_databases.System, Layout.EngineKey, engineState), "write of the engine's state");
        }

        if (!engineState.IsEmpty || state.InstalledIndex != 0)
        {
            RaiseFormat(transaction);
        }
    }

    /// <summary>Makes the transaction durable (two syncs), then visible to readers rented from now on.</summary>
    public void Commit()
    {
        var transaction = Active();
        Span<byte> record = stackalloc byte[Layout.StateBytes];
        Layout.WriteState(record, _state, _nextBucketId);
        Check(transaction.Put(_databases.System, Layout.StateKey, record), "write of the state record");
        End();
        var error = transaction.Commit();
        if (error != LmdbNative.MDB_SUCCESS)
        {
            _owner.ThrowCommitFailed(error);
        }
    }

    /// <summary>Forgets the transaction. Does nothing when there is none.</summary>
    public void Abort()
    {
        if (_transaction is { } transaction)
        {
            EnsureThread();
            End();
            transaction.Dispose();
        }
    }

    /// <summary>As <see cref="Abort"/>.</summary>
    public void Dispose() => Abort();

    /// <summary>Owner only.</summary>
    internal void Begin(LmdbTransaction transaction, in DiskDatabases databases)
    {
        _threadId = Environment.CurrentManagedThreadId;
        _databases = databases;
        _transaction = transaction;
        try
        {
            if (!transaction.TryGet(databases.System, Layout.StateKey, out var record) ||
                !Layout.TryReadState(record, out _state, out _nextBucketId))
            {
                throw new DiskFormatException("the state record is absent or damaged");
            }

            OpenCursors(transaction);
        }
        catch
        {
            Abort();
            throw;
        }
    }

    // A program that knows only the plain format would move the data on and leave the rest as it was: it must not open it.
    private void RaiseFormat(LmdbTransaction transaction)
    {
        if (transaction.TryGet(_databases.System, Layout.FormatKey, out var record) &&
            Layout.TryReadFormat(record, out var version) && version == Layout.FormatVersionPlain)
        {
            Span<byte> raised = stackalloc byte[Layout.FormatBytes];
            Layout.WriteFormat(raised, Layout.FormatVersionCluster);
            Check(transaction.Put(_databases.System, Layout.FormatKey, raised), "write of the format record");
        }
    }

    private void OpenCursors(LmdbTransaction transaction)
    {
        _bucketCursor = null;
        _keys = transaction.OpenCursor(_databases.Keys);
        _greatestLength = 0;
        if (_keys.Move(LmdbCursorOperation.Last))
        {
            Remember(_keys.Key);
        }
    }

    private void PutEmptyKey(LmdbTransaction transaction, ReadOnlySpan<byte> head, ReadOnlySpan<byte> tail)
    {
        var cursor = transaction.OpenCursor(_databases.System);
        Check(cursor.Put(Layout.EmptyKey, head, tail, 0), "put");
        cursor.Dispose();
    }

    private void PutInKeys(ReadOnlySpan<byte> physical, ReadOnlySpan<byte> head, ReadOnlySpan<byte> tail)
    {
        // Appending skips the search from the root and leaves full pages behind instead of half-full ones.
        var append = physical.SequenceCompareTo(_greatest.AsSpan(0, _greatestLength)) > 0;
        var flags = append ? LmdbNative.MDB_APPEND : 0;
        Check(tail.IsEmpty ? _keys.Put(physical, head, flags) : _keys.Put(physical, head, tail, flags), "put");
        if (append)
        {
            Remember(physical);
        }
    }

    private void Remember(ReadOnlySpan<byte> physical)
    {
        physical.CopyTo(_greatest);
        _greatestLength = physical.Length;
    }

    private void PutLong(ReadOnlySpan<byte> key, ReadOnlySpan<byte> head, ReadOnlySpan<byte> tail)
    {
        Span<byte> physical = stackalloc byte[Layout.LinkBytes];
        Span<byte> idBytes = stackalloc byte[Layout.BucketIdBytes];
        var link = Layout.FirstPhysical(key);
        ulong id;
        var fresh = !_keys.SeekExact(link);
        if (fresh)
        {
            id = _nextBucketId++;
            BinaryPrimitives.WriteUInt64BigEndian(idBytes, id);
            PutInKeys(link, idBytes, default);
        }
        else
        {
            id = Layout.ReadBucketId(_keys.Value);
        }

        var rest = key[Layout.LinkBytes..];
        while (true)
        {
            var target = Layout.BucketPhysical(physical, id, rest);
            if (!Layout.IsLink(target))
            {
                Check(Buckets.Put(target, head, tail, 0), "put");
                return;
            }

            // A bucket made a moment ago holds nothing to look for.
            fresh = fresh || !Buckets.SeekExact(target);
            if (fresh)
            {
                id = _nextBucketId++;
                BinaryPrimitives.WriteUInt64BigEndian(idBytes, id);
                Check(Buckets.Put(target, idBytes, 0), "put");
            }
            else
            {
                id = Layout.ReadBucketId(Buckets.Value);
            }

            rest = rest[Layout.ChunkBytes..];
        }
    }

    private bool DeleteLong(ReadOnlySpan<byte> key)
    {
        if (key.Length > StoreLimits.KeyBytesMax || !_keys.SeekExact(Layout.FirstPhysical(key)))
        {
            return false;
        }

        Span<ulong> path = stackalloc ulong[LinksMax];
        Span<byte> physical = stackalloc byte[Layout.LinkBytes];
        path[0] = Layout.ReadBucketId(_keys.Value);
        var depth = 1;
        var rest = key[Layout.LinkBytes..];
        while (true)
        {
            var target = Layout.BucketPhysical(physical, path[depth - 1], rest);
            if (!Buckets.SeekExact(target))
            {
                return false;
            }

            if (!Layout.IsLink(target))
            {
                break;
            }

            path[depth++] = Layout.ReadBucketId(Buckets.Value);
            rest = rest[Layout.ChunkBytes..];
        }

        Check(Buckets.Delete(), "delete");
        DropEmptyBuckets(key, path[..depth]);
        return true;
    }

    /// <summary>From the innermost bucket outwards: as long as one is empty, its link goes too.</summary>
    private void DropEmptyBuckets(ReadOnlySpan<byte> key, ReadOnlySpan<ulong> path)
    {
        Span<byte> physical = stackalloc byte[Layout.LinkBytes];
        for (var depth = path.Length; depth > 0; depth--)
        {
            var target = Layout.BucketPhysical(physical, path[depth - 1], default);
            if (Buckets.SeekAtOrAfter(target) && Buckets.Key.StartsWith(target))
            {
                return;
            }

            var chunkAt = Layout.LinkBytes + ((depth - 2) * Layout.ChunkBytes);
            var cursor = depth == 1 ? _keys : Buckets;
            var link = depth == 1
                ? Layout.FirstPhysical(key)
                : Layout.BucketPhysical(physical, path[depth - 2], key.Slice(chunkAt, Layout.ChunkBytes));
            if (!cursor.SeekExact(link))
            {
                throw new DiskFormatException($"long-key records are damaged: no link to bucket {path[depth - 1]}");
            }

            Check(cursor.Delete(), "delete");
        }
    }

    private LmdbTransaction Active() =>
        _transaction ?? throw new InvalidOperationException("the disk writer has no transaction");

    private void End()
    {
        EnsureThread();
        _transaction = null;
        _bucketCursor = null;
        _keys = null!;
    }

    private void EnsureThread()
    {
        if (Environment.CurrentManagedThreadId != _threadId)
        {
            throw new InvalidOperationException("the disk writer was begun on another thread");
        }
    }

    private void Check(int error, string operation)
    {
        if (error != LmdbNative.MDB_SUCCESS)
        {
            _owner.ThrowWriteFailed(error, operation);
        }
    }
}

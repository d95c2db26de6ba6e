using System.Runtime.CompilerServices;

namespace KvNode.Storage.Lmdb;

/// <summary>A transaction handle. Disposing it aborts what was not committed.</summary>
/// <remarks>The write transaction stays on one thread from begin to end; a read transaction (MDB_NOTLS) may move but
/// serves one thread at a time. Spans handed out live until the transaction is reset or ends, and in the write
/// transaction until its next change. Use after the end is not checked on the reading path: LMDB would follow a freed
/// handle. The owners (<c>DiskReader</c>, <c>DiskWriter</c>) check.</remarks>
internal sealed unsafe class LmdbTransaction : IDisposable
{
    private nint _handle;

    public LmdbTransaction(nint handle) => _handle = handle;

    /// <summary>Lets the snapshot go; only <see cref="Renew()"/> and <see cref="Dispose"/> may follow.</summary>
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public void Reset() => LmdbNative.mdb_txn_reset(_handle);

    /// <summary>Takes the newest snapshot.</summary>
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public void Renew()
    {
        var error = LmdbNative.mdb_txn_renew(_handle);
        if (error != LmdbNative.MDB_SUCCESS)
        {
            LmdbException.Throw(error, "renew of a read transaction");
        }
    }

    /// <summary>Opens a named database; false when it is absent and not to be created.</summary>
    public bool TryOpenDatabase(ReadOnlySpan<byte> name, bool create, out uint database)
    {
        Span<byte> terminated = stackalloc byte[name.Length + 1];
        name.CopyTo(terminated);
        terminated[^1] = 0;
        uint opened = 0;
        fixed (byte* text = terminated)
        {
            var error = LmdbNative.mdb_dbi_open(_handle, text, create ? LmdbNative.MDB_CREATE : 0, &opened);
            database = opened;
            if (error == LmdbNative.MDB_NOTFOUND)
            {
                return false;
            }

            LmdbException.ThrowIfError(error, "open of a named database");
            return true;
        }
    }

    /// <summary>The unnamed database, which holds the names of the others.</summary>
    public uint OpenMainDatabase()
    {
        uint opened;
        LmdbException.ThrowIfError(LmdbNative.mdb_dbi_open(_handle, null, 0, &opened), "open of the main database");
        return opened;
    }

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public bool TryGet(uint database, scoped ReadOnlySpan<byte> key, out ReadOnlySpan<byte> value)
    {
        fixed (byte* bytes = key)
        {
            LmdbValue name = new(bytes, key.Length);
            LmdbValue found;
            var error = LmdbNative.mdb_get(_handle, database, &name, &found);
            if (error == LmdbNative.MDB_SUCCESS)
            {
                value = new ReadOnlySpan<byte>(found.Data, (int)found.Size);
                return true;
            }

            value = default;
            return error == LmdbNative.MDB_NOTFOUND ? false : ThrowGet(error);
        }
    }

    /// <summary>Stores, replacing. Write transaction only.</summary>
    public int Put(uint database, ReadOnlySpan<byte> key, ReadOnlySpan<byte> value)
    {
        fixed (byte* keyBytes = key)
        fixed (byte* valueBytes = value)
        {
            LmdbValue name = new(keyBytes, key.Length);
            LmdbValue content = new(valueBytes, value.Length);
            return LmdbNative.mdb_put(_handle, database, &name, &content, 0);
        }
    }

    /// <returns>0, MDB_NOTFOUND, or an error.</returns>
    public int Delete(uint database, ReadOnlySpan<byte> key)
    {
        fixed (byte* bytes = key)
        {
            LmdbValue name = new(bytes, key.Length);
            return LmdbNative.mdb_del(_handle, database, &name, null);
        }
    }

    /// <summary>Removes every record of a database.</summary>
    public int Drop(uint database) => LmdbNative.mdb_drop(_handle, database, 0);

    public LmdbStatistics Statistics(uint database)
    {
        LmdbStatistics statistics;
        LmdbException.ThrowIfError(LmdbNative.mdb_stat(_handle, database, &statistics), "statistics of a database");
        return statistics;
    }

    public LmdbCursor OpenCursor(uint database)
    {
        nint cursor;
        LmdbException.ThrowIfError(LmdbNative.mdb_cursor_open(_handle, database, &cursor), "open of a cursor");
        return new LmdbCursor(cursor);
    }

    public void Renew(LmdbCursor cursor) => cursor.Renew(_handle);

    /// <summary>Commits and frees the handle whatever comes back.</summary>
    /// <returns>0, or the error for which nothing was committed.</returns>
    public int Commit()
    {
        ObjectDisposedException.ThrowIf(_handle == 0, this);
        var handle = _handle;
        _handle = 0;
        return LmdbNative.mdb_txn_commit(handle);
    }

    public void Dispose()
    {
        if (_handle != 0)
        {
            LmdbNative.mdb_txn_abort(_handle);
            _handle = 0;
        }
    }

    private static bool ThrowGet(int error)
    {
        LmdbException.Throw(error, "get");
        return false;
    }
}

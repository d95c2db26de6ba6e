using System.Runtime.CompilerServices;

namespace KvNode.Storage.Lmdb;

/// <summary>A position in one database of one transaction, and the record it last read.</summary>
/// <remarks>Thread rule and lifetime of spans as for its transaction. A cursor of the write transaction ends with it
/// and is not disposed; one of a read transaction is disposed by its owner, before or after the transaction.</remarks>
internal sealed unsafe class LmdbCursor : IDisposable
{
    private nint _handle;
    private LmdbValue _key;
    private LmdbValue _value;

    public LmdbCursor(nint handle) => _handle = handle;

    /// <summary>The record last moved to; undefined after a move that found nothing.</summary>
    public ReadOnlySpan<byte> Key => new(_key.Data, (int)_key.Size);

    public ReadOnlySpan<byte> Value => new(_value.Data, (int)_value.Size);

    /// <summary>Moves without a key: first, last, next, previous.</summary>
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public bool Move(LmdbCursorOperation operation)
    {
        fixed (LmdbValue* key = &_key)
        fixed (LmdbValue* value = &_value)
        {
            var error = LmdbNative.mdb_cursor_get(_handle, key, value, operation);
            return error == LmdbNative.MDB_SUCCESS || NotFound(error);
        }
    }

    /// <summary>Moves to the first record whose key is equal or greater.</summary>
    public bool SeekAtOrAfter(ReadOnlySpan<byte> target) => Seek(target, LmdbCursorOperation.SetRange);

    /// <summary>Moves to the record with exactly this key. <see cref="Key"/> is not read.</summary>
    public bool SeekExact(ReadOnlySpan<byte> target) => Seek(target, LmdbCursorOperation.Set);

    /// <summary>Stores at this key, with no effect on the record shown. Flags: 0 or MDB_APPEND.</summary>
    /// <returns>0 or an error.</returns>
    public int Put(ReadOnlySpan<byte> key, ReadOnlySpan<byte> value, uint flags)
    {
        fixed (byte* keyBytes = key)
        fixed (byte* valueBytes = value)
        {
            LmdbValue name = new(keyBytes, key.Length);
            LmdbValue content = new(valueBytes, value.Length);
            return LmdbNative.mdb_cursor_put(_handle, &name, &content, flags);
        }
    }

    /// <summary>Stores a value made of two pieces without joining them first.</summary>
    /// <returns>0 or an error.</returns>
    public int Put(ReadOnlySpan<byte> key, ReadOnlySpan<byte> head, ReadOnlySpan<byte> tail, uint flags)
    {
        fixed (byte* keyBytes = key)
        {
            LmdbValue name = new(keyBytes, key.Length);
            LmdbValue room = new(null, checked(head.Length + tail.Length));
            var error = LmdbNative.mdb_cursor_put(_handle, &name, &room, flags | LmdbNative.MDB_RESERVE);
            if (error == LmdbNative.MDB_SUCCESS)
            {
                var bytes = new Span<byte>(room.Data, (int)room.Size);
                head.CopyTo(bytes);
                tail.CopyTo(bytes[head.Length..]);
            }

            return error;
        }
    }

    /// <summary>Removes the record at the position.</summary>
    /// <returns>0 or an error.</returns>
    public int Delete() => LmdbNative.mdb_cursor_del(_handle, 0);

    public void Renew(nint transaction) =>
        LmdbException.ThrowIfError(LmdbNative.mdb_cursor_renew(transaction, _handle), "renew of a cursor");

    public void Dispose()
    {
        if (_handle != 0)
        {
            LmdbNative.mdb_cursor_close(_handle);
            _handle = 0;
        }
    }

    private bool Seek(ReadOnlySpan<byte> target, LmdbCursorOperation operation)
    {
        fixed (byte* bytes = target)
        fixed (LmdbValue* value = &_value)
        {
            LmdbValue key = new(bytes, target.Length);
            var error = LmdbNative.mdb_cursor_get(_handle, &key, value, operation);
            if (error != LmdbNative.MDB_SUCCESS)
            {
                return NotFound(error);
            }

            // MDB_SET leaves the caller's pointer, which dies with this frame; MDB_SET_RANGE gives the record's own key.
            _key = operation == LmdbCursorOperation.SetRange ? key : default;
            return true;
        }
    }

    private static bool NotFound(int error)
    {
        if (error != LmdbNative.MDB_NOTFOUND)
        {
            LmdbException.Throw(error, "cursor move");
        }

        return false;
    }
}

using System.Runtime.CompilerServices;
using KvNode.Native;

namespace KvNode.Storage;

/// <summary>What a buffer knows of a key.</summary>
internal enum BufferLookup
{
    /// <summary>Nothing: look further down.</summary>
    Missing,

    Value,

    /// <summary>The key was deleted.</summary>
    Tombstone,
}

/// <summary>
/// One generation of the write buffer: recent writes in memory, found by key in constant time and walked in key order.
/// </summary>
/// <remarks>
/// <para>One thread writes; any thread that holds a reference reads, without a lock. Every write carries a sequence
/// number; a reader sees the writes up to the number it names and so a batch whole or not at all.</para>
/// <para>A hash table leads to the keys. A slot is 8 bytes: 16 bits of the hash, 48 bits of address, so nearly every
/// probe that is not a hit ends within the table's cache line. All memory comes from an arena and goes back to the
/// kernel when the last reference is released.</para>
/// </remarks>
#pragma warning disable CA1001 // counted references, not one owner's Dispose, give the arena back
internal sealed unsafe partial class WriteBuffer
#pragma warning restore CA1001
{
    private const int TagShift = 48;
    private const ulong AddressMask = (1UL << TagShift) - 1;
    private const int InitialSlots = 4096;

    private readonly Arena _arena = new();
    private readonly BufferOrder _order;

    // Outgrown tables stay until the end: a reader may still be probing one. Together they are no larger than the last.
    private readonly List<Table> _outgrown = [];
    private Table _table;
    private int _references = 1;
    private long _tableBytes;

    public WriteBuffer(bool clearsBelow)
    {
        ClearsBelow = clearsBelow;
        _order = new BufferOrder(_arena);
        _table = new Table(InitialSlots);
        _tableBytes = InitialSlots * sizeof(ulong);
    }

    /// <summary>A clear stands before everything in this buffer: nothing below it counts.</summary>
    public bool ClearsBelow { get; }

    /// <summary>Memory held, in bytes.</summary>
    public long Bytes => _arena.Used + Volatile.Read(ref _tableBytes);

    /// <summary>Different keys, deleted ones included.</summary>
    public int Keys => _order.Count;

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static ulong Hash(ReadOnlySpan<byte> key) => KeyHash.Of(key);

    /// <summary>Stores a value given in two pieces. Writer only; sequence numbers never go back.</summary>
    /// <returns>What the buffer knew of the key before.</returns>
    public BufferLookup Put(
        ulong sequence, ReadOnlySpan<byte> key, ulong hash, ReadOnlySpan<byte> head, ReadOnlySpan<byte> tail)
    {
        var before = Add(sequence, key, hash, head.Length + tail.Length, out var value);
        head.CopyTo(value);
        tail.CopyTo(value[head.Length..]);
        Publish();
        return before;
    }

    /// <summary>Notes that the key is gone. Writer only.</summary>
    /// <returns>What the buffer knew of the key before.</returns>
    public BufferLookup Delete(ulong sequence, ReadOnlySpan<byte> key, ulong hash)
    {
        var before = Add(sequence, key, hash, BufferVersion.Tombstone, out _);
        Publish();
        return before;
    }

    /// <summary>Looks a key up as of <paramref name="sequence"/>. The value lives as long as the reference.</summary>
    public BufferLookup TryGet(ulong sequence, ReadOnlySpan<byte> key, ulong hash, out ReadOnlySpan<byte> value)
    {
        value = default;
        var found = Volatile.Read(ref _table).Find(key, hash, out _);
        if (found == null)
        {
            return BufferLookup.Missing;
        }

        var version = BufferKey.VisibleAt(found, sequence);
        if (version == null)
        {
            return BufferLookup.Missing;
        }

        if (version->Length == BufferVersion.Tombstone)
        {
            return BufferLookup.Tombstone;
        }

        value = BufferVersion.Value(version);
        return BufferLookup.Value;
    }

    /// <summary>A cursor over the state at <paramref name="sequence"/>. The caller keeps a reference meanwhile.</summary>
    public Cursor OpenCursor(ulong sequence) => new(_order.Snapshot(out var tail), tail, sequence);

    /// <summary>Walks every key with its newest version, in order. Only when nothing is written any more.</summary>
    public FlushCursor OpenFlush() => new(_order.SortAll());

    /// <summary>Takes a reference; false when the buffer is already gone.</summary>
    public bool TryAddReference()
    {
        while (true)
        {
            var references = Volatile.Read(ref _references);
            if (references == 0)
            {
                return false;
            }

            if (Interlocked.CompareExchange(ref _references, references + 1, references) == references)
            {
                return true;
            }
        }
    }

    /// <summary>Gives a reference back; the last one gives the memory back.</summary>
    public void Release()
    {
        var left = Interlocked.Decrement(ref _references);
        Invariant.Check(left >= 0, "a buffer is released as often as it was referenced");
        if (left == 0)
        {
            foreach (var table in _outgrown)
            {
                table.Free();
            }

            _table.Free();
            _arena.Dispose();
        }
    }

    // Prepared by Add, made visible by Publish once the value's bytes are in place.
    private BufferKey* _pendingKey;
    private BufferVersion* _pendingVersion;
    private ulong* _pendingSlot;
    private ulong _pendingHash;

    private BufferLookup Add(ulong sequence, ReadOnlySpan<byte> key, ulong hash, int length, out Span<byte> value)
    {
        var found = _table.Find(key, hash, out var slot);
        var valueBytes = Math.Max(length, 0);
        BufferVersion* version;
        var before = BufferLookup.Missing;
        if (found != null)
        {
            var newest = (BufferVersion*)found->Newest;
            before = newest->Length == BufferVersion.Tombstone ? BufferLookup.Tombstone : BufferLookup.Value;
            version = (BufferVersion*)_arena.Allocate(sizeof(BufferVersion) + (long)valueBytes);
            version->Older = newest;
            _pendingSlot = null;
        }
        else
        {
            // A new key and its first version lie side by side: one cache miss finds both.
            var keyBytes = (sizeof(BufferKey) + key.Length + 7) & ~7;
            found = (BufferKey*)_arena.Allocate(keyBytes + sizeof(BufferVersion) + (long)valueBytes);
            found->Length = key.Length;
            key.CopyTo(new Span<byte>((byte*)found + sizeof(BufferKey), key.Length));
            version = (BufferVersion*)((byte*)found + keyBytes);
            version->Older = null;
            _pendingSlot = slot;
            _pendingHash = hash;
        }

        version->Sequence = sequence;
        version->Length = length;
        _pendingKey = found;
        _pendingVersion = version;
        value = new Span<byte>((byte*)version + sizeof(BufferVersion), valueBytes);
        return before;
    }

    private void Publish()
    {
        Volatile.Write(ref _pendingKey->Newest, (nint)_pendingVersion);
        if (_pendingSlot == null)
        {
            return;
        }

        Volatile.Write(ref *_pendingSlot, Table.Slot(_pendingHash, _pendingKey));
        _order.Add(_pendingKey);
        _table.Count++;
        if (_table.Count > _table.Capacity / 2)
        {
            Grow();
        }
    }

    private void Grow()
    {
        var old = _table;
        var larger = new Table(old.Capacity * 2);
        for (var i = 0; i < old.Capacity; i++)
        {
            var slot = old.Slots[i];
            if (slot != 0)
            {
                larger.Insert(Hash(BufferKey.Bytes((BufferKey*)(slot & AddressMask))), slot);
            }
        }

        larger.Count = old.Count;
        _outgrown.Add(old);
        Volatile.Write(ref _table, larger);
        Volatile.Write(ref _tableBytes, _tableBytes + larger.Capacity * (long)sizeof(ulong));
    }

    /// <summary>Open addressing with linear probing, at most half full; 0 is an empty slot.</summary>
    private sealed class Table(int capacity)
    {
        private readonly uint _mask = (uint)capacity - 1;

        public ulong* Slots { get; } = (ulong*)Libc.MapMemory((nuint)capacity * sizeof(ulong));

        public int Capacity { get; } = capacity;

        public int Count { get; set; }

        [MethodImpl(MethodImplOptions.AggressiveInlining)]
        public static ulong Slot(ulong hash, BufferKey* key) => (hash & ~AddressMask) | (ulong)key;

        /// <summary>The key, or null and the empty slot where it belongs.</summary>
        public BufferKey* Find(ReadOnlySpan<byte> key, ulong hash, out ulong* empty)
        {
            for (var i = (uint)hash & _mask; ; i = (i + 1) & _mask)
            {
                var slot = Volatile.Read(ref Slots[i]);
                if (slot == 0)
                {
                    empty = &Slots[i];
                    return null;
                }

                if (((slot ^ hash) & ~AddressMask) == 0)
                {
                    var candidate = (BufferKey*)(slot & AddressMask);
                    if (BufferKey.Bytes(candidate).SequenceEqual(key))
                    {
                        empty = null;
                        return candidate;
                    }
                }
            }
        }

        public void Insert(ulong hash, ulong slot)
        {
            var i = (uint)hash & _mask;
            while (Slots[i] != 0)
            {
                i = (i + 1) & _mask;
            }

            Slots[i] = slot;
        }

        public void Free() => Libc.UnmapMemory((byte*)Slots, (nuint)Capacity * sizeof(ulong));
    }
}

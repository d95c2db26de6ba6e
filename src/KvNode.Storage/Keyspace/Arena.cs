using KvNode.Native;

namespace KvNode.Storage;

/// <summary>
/// Memory that is only ever added to and given back as a whole, straight from the kernel and to the kernel.
/// </summary>
/// <remarks>One thread allocates; any thread may read what it was handed. Addresses never move. Fresh memory is zero.</remarks>
internal sealed unsafe class Arena : IDisposable
{
    private const int ChunkBytes = 4 * 1024 * 1024;

    private readonly List<(nint Memory, nuint Bytes)> _chunks = [];
    private byte* _next;
    private byte* _end;

    private long _used;

    /// <summary>Bytes handed out. Any thread.</summary>
    public long Used => Volatile.Read(ref _used);

    /// <summary>Memory for <paramref name="bytes"/>, aligned to 8.</summary>
    public byte* Allocate(long bytes)
    {
        bytes = (bytes + 7) & ~7L;
        Volatile.Write(ref _used, _used + bytes);
        if (_end - _next >= bytes)
        {
            var memory = _next;
            _next += bytes;
            return memory;
        }

        return AllocateSlow(bytes);
    }

    public void Dispose()
    {
        foreach (var (memory, bytes) in _chunks)
        {
            Libc.UnmapMemory((byte*)memory, bytes);
        }

        _chunks.Clear();
        _next = _end = null;
    }

    private byte* AllocateSlow(long bytes)
    {
        if (bytes > ChunkBytes / 4)
        {
            // Large values get a chunk of their own; the rest of the current chunk stays in use.
            return Map(bytes);
        }

        _next = Map(ChunkBytes);
        _end = _next + ChunkBytes;
        var memory = _next;
        _next += bytes;
        return memory;
    }

    private byte* Map(long bytes)
    {
        var memory = Libc.MapMemory((nuint)bytes);
        _chunks.Add(((nint)memory, (nuint)bytes));
        return memory;
    }
}

using System.Numerics;
using KvNode.Native;

namespace KvNode.Raft.Wal;

/// <summary>
/// A reused block of memory outside the garbage collector's heap: page-aligned, never moved, and given back to the
/// system when a rare huge frame made it huge. One thread at a time.
/// </summary>
internal sealed unsafe class NativeBuffer : IDisposable
{
    /// <summary>A buffer larger than this is not kept for the next frame.</summary>
    public const int KeptBytesMax = 4 * 1024 * 1024;

    private byte* _memory;
    private int _capacity;

    /// <summary>The first bytes of the buffer; what they contain is left over from the last use.</summary>
    /// <exception cref="System.ComponentModel.Win32Exception">The kernel has no memory for it.</exception>
    public Span<byte> Take(int bytes)
    {
        if (bytes > _capacity)
        {
            Free();
            var capacity = bytes >= KeptBytesMax ? bytes : (int)BitOperations.RoundUpToPowerOf2((uint)bytes);
            _memory = Libc.MapMemory((nuint)capacity);
            _capacity = capacity;
        }

        return new Span<byte>(_memory, bytes);
    }

    /// <summary>Ends the use; memory above <see cref="KeptBytesMax"/> goes back.</summary>
    public void Trim()
    {
        if (_capacity > KeptBytesMax)
        {
            Free();
        }
    }

    public void Dispose() => Free();

    private void Free()
    {
        if (_memory != null)
        {
            Libc.UnmapMemory(_memory, (nuint)_capacity);
            _memory = null;
            _capacity = 0;
        }
    }
}

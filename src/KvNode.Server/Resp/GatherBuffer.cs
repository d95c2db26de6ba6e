using System.Runtime.InteropServices;

namespace KvNode.Server.Resp;

/// <summary>
/// The bytes of a half-read command in one piece that grows: an array of the shared pool while it is of ordinary size, and
/// beyond that memory from the system.
/// </summary>
/// <remarks>
/// <para>Memory from the system is back there the moment it is released, and mostly grows without being copied. Large arrays,
/// outgrown or released, would stay until a collection, and a client that has sent half a command and goes brings none about.</para>
/// <para>A mutable struct: keep it in a field, never use a copy. Nobody releases it but its owner.</para>
/// </remarks>
internal unsafe struct GatherBuffer
{
    // Invariant: one of them at most.
    private byte[]? _array;
    private byte* _large;
    private int _largeLength;

    public readonly int Length => _large is null ? _array?.Length ?? 0 : _largeLength;

    /// <summary>All of it; valid until the next <see cref="Grow"/> or <see cref="Release"/>.</summary>
    public readonly Span<byte> Bytes => _large is null ? _array : new Span<byte>(_large, _largeLength);

    /// <summary>Makes it <paramref name="length"/> long or longer, which is more than it was.</summary>
    /// <param name="used">So many bytes at its front are kept.</param>
    public void Grow(int length, int used)
    {
        if (length > Limits.PooledBufferBytesMax)
        {
            GrowLarge(length, used);
            return;
        }

        var larger = BufferPool.Rent<byte>(length);
        Bytes[..used].CopyTo(larger);
        Release();
        _array = larger;
    }

    /// <summary>Gives the memory back; the length is 0 then.</summary>
    public void Release()
    {
        if (_array is { } array)
        {
            _array = null;
            BufferPool.Return(array);
        }
        else if (_large is not null)
        {
            NativeMemory.Free(_large);
            _large = null;
        }
    }

    private void GrowLarge(int length, int used)
    {
        if (_large is null)
        {
            var large = (byte*)NativeMemory.Alloc((nuint)length);
            Bytes[..used].CopyTo(new Span<byte>(large, used));
            Release();
            _large = large;
        }
        else
        {
            _large = (byte*)NativeMemory.Realloc(_large, (nuint)length);
        }

        _largeLength = length;
    }
}

using System.Buffers;

namespace KvNode.Raft.Transport;

/// <summary>Bytes that wait to be sent, in one piece of pooled memory that grows. One thread at a time.</summary>
internal sealed class SendBuffer
{
    /// <summary>Memory above this is given back once sent.</summary>
    private const int KeptBytesMax = 2 << 20;

    private const int BytesMin = 16 * 1024;

    private byte[] _array = [];

    public int Length { get; private set; }

    public ReadOnlyMemory<byte> Memory => _array.AsMemory(0, Length);

    public ReadOnlySpan<byte> Span => _array.AsSpan(0, Length);

    /// <summary>Room for more bytes at the end, for the caller to fill; what is in it is left over.</summary>
    public Span<byte> Add(int bytes)
    {
        var length = checked(Length + bytes);
        if (length > _array.Length)
        {
            var doubled = (int)Math.Min((long)_array.Length * 2, Array.MaxLength);
            var array = ArrayPool<byte>.Shared.Rent(Math.Max(Math.Max(BytesMin, doubled), length));
            Span.CopyTo(array);
            Return();
            _array = array;
        }

        var room = _array.AsSpan(Length, bytes);
        Length = length;
        return room;
    }

    public void Clear()
    {
        Length = 0;
        if (_array.Length > KeptBytesMax)
        {
            Return();
        }
    }

    /// <summary>Empty, with nothing held. May be used again.</summary>
    public void Free()
    {
        Length = 0;
        Return();
    }

    private void Return()
    {
        if (_array.Length > 0)
        {
            ArrayPool<byte>.Shared.Return(_array);
            _array = [];
        }
    }
}

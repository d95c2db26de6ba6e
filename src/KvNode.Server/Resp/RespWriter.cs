using System.Buffers.Text;
using System.Runtime.CompilerServices;

namespace KvNode.Server.Resp;

/// <summary>
/// Gathers replies in one growing buffer, in RESP2 or, after HELLO 3, in RESP3.
/// </summary>
/// <remarks>
/// One thread at a time. The buffer comes from <see cref="BufferPool"/> and goes back on <see cref="Dispose"/>; one that grew
/// past <see cref="KeepBytesMax"/> is given back at the next <see cref="Reset"/>.
/// </remarks>
internal sealed class RespWriter(int protocol = 2) : IDisposable
{
    private const int InitialBytes = 4096;
    private const int KeepBytesMax = 256 * 1024;

    private byte[] _buffer = [];
    private int _length;

    /// <summary>2 or 3: what the connection negotiated.</summary>
    public int Protocol { get; set; } = protocol;

    /// <summary>Bytes gathered so far.</summary>
    public int Length => _length;

    public ReadOnlySpan<byte> Written => _buffer.AsSpan(0, _length);

    /// <summary>Forgets what was gathered.</summary>
    public void Reset()
    {
        _length = 0;
        if (_buffer.Length > KeepBytesMax)
        {
            Dispose();
        }
    }

    /// <summary>Takes back everything after <paramref name="length"/>: a handler that must answer an error instead.</summary>
    public void Truncate(int length) => _length = length;

    public void Dispose()
    {
        if (_buffer.Length > 0)
        {
            BufferPool.Return(_buffer);
            _buffer = [];
        }

        _length = 0;
    }

    /// <summary><c>+text\r\n</c></summary>
    public void SimpleString(ReadOnlySpan<byte> text) => Line((byte)'+', text);

    public void Ok() => Raw("+OK\r\n"u8);

    /// <summary><c>-text\r\n</c>; the text begins with its code (<c>ERR</c>, <c>MISCONF</c>, ...) and holds no line break.</summary>
    public void Error(ReadOnlySpan<byte> text) => Line((byte)'-', text);

    /// <summary><c>:n\r\n</c></summary>
    public void Integer(long value) => Number((byte)':', value);

    /// <summary><c>$len\r\npayload\r\n</c></summary>
    public void Bulk(ReadOnlySpan<byte> payload)
    {
        Number((byte)'$', payload.Length);
        var span = Reserve(payload.Length + 2);
        payload.CopyTo(span);
        span[payload.Length] = (byte)'\r';
        span[payload.Length + 1] = (byte)'\n';
        _length += payload.Length + 2;
    }

    /// <summary>No value: <c>$-1</c> in RESP2, <c>_</c> in RESP3.</summary>
    public void Null() => Raw(Protocol == 3 ? "_\r\n"u8 : "$-1\r\n"u8);

    /// <summary>No array: <c>*-1</c> in RESP2, <c>_</c> in RESP3.</summary>
    public void NullArray() => Raw(Protocol == 3 ? "_\r\n"u8 : "*-1\r\n"u8);

    /// <summary><c>*count\r\n</c>; that many replies follow.</summary>
    public void ArrayHeader(long count) => Number((byte)'*', count);

    /// <summary>A map of that many pairs: <c>%pairs</c> in RESP3, a flat array of twice as many in RESP2.</summary>
    public void MapHeader(long pairs) => Number((byte)(Protocol == 3 ? '%' : '*'), Protocol == 3 ? pairs : pairs * 2);

    /// <summary>A set: <c>~count</c> in RESP3, an array in RESP2.</summary>
    public void SetHeader(long count) => Number((byte)(Protocol == 3 ? '~' : '*'), count);

    /// <summary>Text for people: <c>=len\r\ntxt:...</c> in RESP3, a bulk string in RESP2.</summary>
    public void VerbatimText(ReadOnlySpan<byte> text)
    {
        if (Protocol != 3)
        {
            Bulk(text);
            return;
        }

        Number((byte)'=', text.Length + 4);
        Raw("txt:"u8);
        Raw(text);
        Raw("\r\n"u8);
    }

    /// <summary>Bytes that are already RESP.</summary>
    public void Raw(ReadOnlySpan<byte> bytes)
    {
        bytes.CopyTo(Reserve(bytes.Length));
        _length += bytes.Length;
    }

    private void Line(byte type, ReadOnlySpan<byte> text)
    {
        var span = Reserve(text.Length + 3);
        span[0] = type;
        text.CopyTo(span[1..]);
        span[text.Length + 1] = (byte)'\r';
        span[text.Length + 2] = (byte)'\n';
        _length += text.Length + 3;
    }

    private void Number(byte type, long value)
    {
        var span = Reserve(24);
        span[0] = type;
        if ((ulong)value < 10)
        {
            span[1] = (byte)('0' + value);
            span[2] = (byte)'\r';
            span[3] = (byte)'\n';
            _length += 4;
            return;
        }

        Utf8Formatter.TryFormat(value, span[1..], out var digits);
        span[digits + 1] = (byte)'\r';
        span[digits + 2] = (byte)'\n';
        _length += digits + 3;
    }

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    private Span<byte> Reserve(int bytes)
    {
        if (_buffer.Length - _length < bytes)
        {
            Grow(bytes);
        }

        return _buffer.AsSpan(_length);
    }

    private void Grow(int bytes)
    {
        if ((long)_length + bytes > Limits.ReplyBytesMax)
        {
            throw new ReplyTooLargeException();
        }

        var wanted = Math.Max(InitialBytes, Math.Max((long)_buffer.Length * 2, (long)_length + bytes));
        var larger = BufferPool.Rent<byte>((int)Math.Min(wanted, Limits.ReplyBytesMax));
        _buffer.AsSpan(0, _length).CopyTo(larger);
        if (_buffer.Length > 0)
        {
            BufferPool.Return(_buffer);
        }

        _buffer = larger;
    }
}

/// <summary>A reply outgrew <see cref="Limits.ReplyBytesMax"/>. The client that asked for it is closed.</summary>
internal sealed class ReplyTooLargeException() : IOException($"a reply is longer than {Limits.ReplyBytesMax} bytes");

using System.Buffers;
using System.Buffers.Binary;

namespace KvNode.Server.Resp;

/// <summary>What a <see cref="CommandReader"/> found.</summary>
internal enum ReadStatus
{
    /// <summary>A whole command.</summary>
    Command,

    /// <summary>No whole command yet. Whatever had to be kept of the input, the reader has kept.</summary>
    NeedMore,

    /// <summary>The stream makes no sense any more: answer <see cref="CommandReader.Error"/> and close.</summary>
    ProtocolError,

    /// <summary>A whole command went by that is too large for this node: answer <see cref="CommandReader.Error"/>.</summary>
    TooLarge,
}

/// <summary>
/// Bytes of one connection -> commands, as Redis 7.0.15 reads them.
/// <code>
/// command   = multibulk | inline
/// multibulk = "*" count CRLF count * ( "$" length CRLF bytes CRLF )     no command when count is 0 or less
/// inline    = words separated by blanks, with quotes, up to LF or CRLF  no command when there is no word
/// </code>
/// </summary>
/// <remarks>
/// <para>One per connection; one thread at a time.</para>
/// <para>A command that lies whole in the input's first segment is parsed in place, without a copy. Any other is
/// gathered, piece by piece as it arrives, in a buffer of the reader's own; the pieces are then consumed, so the
/// transport's memory is free and nothing is looked at twice. The buffer grows behind the data, never ahead of it: a
/// client that announces 512 MiB and stalls holds what it has sent. While no command is half read the reader holds no
/// buffer.</para>
/// <para>Stricter than Redis in one point: where a CRLF belongs, Redis skips two bytes unseen, while here anything else
/// is a protocol error (<c>invalid bulk length</c>, <c>invalid multibulk length</c>). A wrong length would otherwise be
/// found only when payload has been executed as commands, and the raw bytes of a command go into the log, where only
/// the exact form may stand. Freer in one: zero bytes in a line are bytes like any other; Redis waits for ever.</para>
/// </remarks>
internal sealed partial class CommandReader(RespLimits limits) : IDisposable
{
    /// <summary>A gathered command's buffer is kept for the next one up to this size.</summary>
    private const int KeepBytesMax = 64 * 1024;

    private const int InitialBytes = 512;

    private const ushort CarriageReturnLineFeed = '\r' | ('\n' << 8);

    private enum Step : byte
    {
        /// <summary>Between commands; nothing is kept.</summary>
        Start,

        /// <summary>Between commands; the caller may still look at the gathered command it was given.</summary>
        Delivered,

        /// <summary>In <c>*count CRLF</c>.</summary>
        CountLine,

        /// <summary>In <c>$length CRLF</c>.</summary>
        LengthLine,

        /// <summary>In the bytes of an argument or the CRLF behind them.</summary>
        Body,

        /// <summary>In an inline command.</summary>
        InlineLine,

        /// <summary>After a protocol error.</summary>
        Failed,
    }

    private readonly RespLimits _limits = limits;

    // Copied out of the record: these are read for every command.
    private readonly int _argumentsMax = limits.ArgumentsMax;
    private readonly int _valueBytesMax = limits.ValueBytesMax;
    private readonly int _commandBytesMax = limits.CommandBytesMax;

    private Step _step;

    // True while a command that is too large goes by; then nothing but the current line is in the buffer.
    private bool _skipping;

    private RangeList _ranges;
    private GatherBuffer _buffer;
    private int _length;

    // Invariant: _lineStart <= _length. Where the current line begins in the buffer.
    private int _lineStart;
    private int _argumentsLeft;

    // Bytes of the current argument, its CRLF included, that have not arrived.
    private int _bodyLeft;
    private byte[] _error = [];

    /// <summary>After ProtocolError and TooLarge: the reply's text, without <c>-</c> and line end.</summary>
    public ReadOnlySpan<byte> Error => _error;

    /// <summary>Bytes kept of a command that is not whole yet.</summary>
    public int BufferedBytes => _step > Step.Delivered ? _length : 0;

    /// <summary>Capacity of the buffers held at this moment; 0 while no command is half read.</summary>
    public int HeldBytes => _buffer.Length + _ranges.HeldBytes;

    /// <summary>
    /// Takes the next command off one contiguous piece of input: the quickest way, for a caller that walks the segments
    /// itself. Call again with what follows <paramref name="taken"/>; NeedMore has taken all of it.
    /// </summary>
    /// <param name="args">With <see cref="ReadStatus.Command"/>: valid until the next call, and no longer than the
    /// input's memory.</param>
    public ReadStatus TryRead(ReadOnlySpan<byte> input, out int taken, out CommandArgs args)
    {
        taken = 0;
        args = default;
        while (true)
        {
            var rest = input[taken..];
            if (_step <= Step.Delivered)
            {
                if (_step == Step.Delivered)
                {
                    ForgetDelivered();
                }

                var length = ParseInPlace(rest);
                if (length > 0)
                {
                    taken += length;
                    args = new CommandArgs(rest[..length], _ranges.Items);
                    return ReadStatus.Command;
                }
            }

            if (_step == Step.Failed)
            {
                return ReadStatus.ProtocolError;
            }

            if (rest.IsEmpty)
            {
                if (_step == Step.Start)
                {
                    ReleaseBuffers();
                }

                return ReadStatus.NeedMore;
            }

            // NeedMore with input left: an empty command went by, and the next one may lie whole in this piece.
            var status = Advance(rest, out var used);
            taken += used;
            if (status != ReadStatus.NeedMore)
            {
                if (status == ReadStatus.Command)
                {
                    args = new CommandArgs(_buffer.Bytes[.._length], _ranges.Items);
                }

                return status;
            }
        }
    }

    /// <summary>
    /// Takes the next command off <paramref name="input"/>: what was taken is sliced off, with NeedMore all of it.
    /// </summary>
    /// <param name="args">With <see cref="ReadStatus.Command"/>: valid until the next call, and no longer than the
    /// input's memory.</param>
    public ReadStatus TryRead(ref ReadOnlySequence<byte> input, out CommandArgs args)
    {
        while (true)
        {
            var segment = input.FirstSpan;
            var status = TryRead(segment, out var taken, out args);
            if (taken < segment.Length || input.IsSingleSegment)
            {
                input = input.Slice(taken);
            }
            else
            {
                var next = input.Start;
                input.TryGet(ref next, out _);
                input = input.Slice(next);
            }

            if (status != ReadStatus.NeedMore || input.IsEmpty)
            {
                return status;
            }
        }
    }

    /// <summary>Forgets a half-read command and any error; gives the buffers back.</summary>
    public void Reset()
    {
        _step = Step.Start;
        _skipping = false;
        _error = [];
        ReleaseBuffers();
    }

    public void Dispose() => Reset();

    /// <summary>The usual case: one whole multibulk command, written as every client library writes it.</summary>
    /// <returns>Its length; 0 for anything else, which the careful way then looks at.</returns>
    private int ParseInPlace(ReadOnlySpan<byte> input)
    {
        var at = ReadLine(input, 0, (byte)'*', out var count);

        // An argument takes six bytes at least: a large count without the bytes to go with it costs no memory here.
        if (at == 0 || count == 0 || count > _argumentsMax || count > (input.Length - at) / 6)
        {
            return 0;
        }

        var end = ReadArguments(input, at, _ranges.Resize(count), _valueBytesMax);
        return end <= _commandBytesMax ? end : 0;
    }

    private void ForgetDelivered()
    {
        _step = Step.Start;
        _length = 0;
        _ranges.Clear();
        if (_buffer.Length > KeepBytesMax)
        {
            ReleaseBuffers();
        }
    }

    private void ReleaseBuffers()
    {
        _length = 0;
        _lineStart = 0;
        _ranges.Release();
        _buffer.Release();
    }

    /// <summary>
    /// Parses one whole command at the start of trusted, contiguous bytes: the way a log entry's commands are walked.
    /// No limit is applied; only the exact multibulk form is accepted, and only with at least one argument.
    /// </summary>
    /// <param name="scratch">Grows when a command has more arguments; pass the same variable again.</param>
    /// <param name="args">Points into <paramref name="buffer"/> and <paramref name="scratch"/>: valid until the next
    /// call with the same scratch.</param>
    /// <param name="consumed">Length of the command; 0 when false.</param>
    /// <returns>False when the bytes do not begin with a whole, well-formed command.</returns>
    public static bool TryParse(
        ReadOnlySpan<byte> buffer, ref ArgRange[] scratch, out CommandArgs args, out int consumed)
    {
        args = default;
        consumed = 0;
        var at = ReadLine(buffer, 0, (byte)'*', out var count);
        if (at == 0 || count == 0 || count > (buffer.Length - at) / 6)
        {
            return false;
        }

        if (scratch.Length < count)
        {
            scratch = new ArgRange[Math.Max(count, scratch.Length * 2)];
        }

        var ranges = scratch.AsSpan(0, count);
        consumed = ReadArguments(buffer, at, ranges, int.MaxValue);
        if (consumed == 0)
        {
            return false;
        }

        args = new CommandArgs(buffer[..consumed], ranges);
        return true;
    }

    /// <summary>Reads <c>type digits CRLF</c>, at most nine digits, without sign and without leading zero.</summary>
    /// <returns>Where the line ends; 0 when there is no such line.</returns>
    private static int ReadLine(ReadOnlySpan<byte> input, int at, byte type, out int value)
    {
        value = 0;
        if (input.Length - at < 4 || input[at] != type)
        {
            return 0;
        }

        var first = input[at + 1] - '0';
        if ((uint)first > 9)
        {
            return 0;
        }

        value = first;
        at += 2;
        while ((uint)at < (uint)input.Length && input[at] != '\r')
        {
            var digit = input[at] - '0';
            if ((uint)digit > 9 || value is 0 or > 99_999_999)
            {
                return 0;
            }

            value = (value * 10) + digit;
            at++;
        }

        return (uint)(at + 1) < (uint)input.Length && input[at + 1] == '\n' ? at + 2 : 0;
    }

    /// <summary>Reads as many arguments as <paramref name="ranges"/> has places.</summary>
    /// <returns>Where the last one ends; 0 when one is missing, malformed or longer than allowed.</returns>
    private static int ReadArguments(ReadOnlySpan<byte> input, int at, Span<ArgRange> ranges, int valueBytesMax)
    {
        for (var i = 0; i < ranges.Length; i++)
        {
            at = ReadLine(input, at, (byte)'$', out var length);

            // The difference cannot overflow, the sum could.
            if (at == 0 || length > valueBytesMax || input.Length - at - 2 < length)
            {
                return 0;
            }

            ranges[i] = new ArgRange(at, length);
            at += length;
            if (BinaryPrimitives.ReadUInt16LittleEndian(input[at..]) != CarriageReturnLineFeed)
            {
                return 0;
            }

            at += 2;
        }

        return at;
    }
}

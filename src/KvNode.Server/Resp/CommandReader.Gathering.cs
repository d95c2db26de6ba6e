namespace KvNode.Server.Resp;

/// <summary>The careful way: step by step over pieces of any size, every deviation answered as Redis answers it.</summary>
internal sealed partial class CommandReader
{
    private enum Line
    {
        Partial,
        Whole,
        TooLong,
    }

    /// <summary>Takes from <paramref name="segment"/> up to the end of the segment or of the command.</summary>
    private ReadStatus Advance(ReadOnlySpan<byte> segment, out int taken)
    {
        taken = 0;
        while (taken < segment.Length)
        {
            var rest = segment[taken..];
            if (_step == Step.Start)
            {
                Begin(rest[0]);
            }

            int used;
            var status = _step switch
            {
                Step.CountLine => TakeCount(rest, out used),
                Step.LengthLine => TakeLength(rest, out used),
                Step.Body => TakeBody(rest, out used),
                _ => TakeInline(rest, out used),
            };
            taken += used;
            if (status != ReadStatus.NeedMore || _step == Step.Start)
            {
                return status;
            }
        }

        return ReadStatus.NeedMore;
    }

    private void Begin(byte first)
    {
        _skipping = false;
        _length = 0;
        _lineStart = 0;
        _ranges.Clear();
        _step = first == '*' ? Step.CountLine : Step.InlineLine;
    }

    private ReadStatus TakeCount(ReadOnlySpan<byte> input, out int taken)
    {
        switch (TakeLine(input, (byte)'\r', 1, out taken))
        {
            case Line.Partial:
                return ReadStatus.NeedMore;
            case Line.TooLong:
                return Fail(RespError.MultibulkCountTooBig);
        }

        if (!TryParseLine(out var count) || count > _argumentsMax)
        {
            return Fail(RespError.InvalidMultibulkLength);
        }

        if (count <= 0)
        {
            _step = Step.Start;
            return ReadStatus.NeedMore;
        }

        _argumentsLeft = (int)count;
        _step = Step.LengthLine;
        _lineStart = _length;
        return ReadStatus.NeedMore;
    }

    private ReadStatus TakeLength(ReadOnlySpan<byte> input, out int taken)
    {
        switch (TakeLine(input, (byte)'\r', 1, out taken))
        {
            case Line.Partial:
                return ReadStatus.NeedMore;
            case Line.TooLong:
                return Fail(RespError.BulkCountTooBig);
        }

        if (_buffer.Bytes[_lineStart] != '$')
        {
            return Fail(RespError.ExpectedDollar(_buffer.Bytes[_lineStart]));
        }

        if (!TryParseLine(out var length) || length < 0 || length > _limits.BulkBytesMax)
        {
            return Fail(RespError.InvalidBulkLength);
        }

        if (_skipping)
        {
            _length = 0;
        }
        else if (length > _valueBytesMax)
        {
            Skip(_limits.ValueTooLargeText());
        }
        else if (length + 2 > _commandBytesMax - (long)_length)
        {
            Skip(_limits.CommandTooLargeText());
        }
        else
        {
            _ranges.Add(new ArgRange(_length, (int)length));
        }

        _bodyLeft = (int)length + 2;
        _step = Step.Body;
        return ReadStatus.NeedMore;
    }

    private ReadStatus TakeBody(ReadOnlySpan<byte> input, out int taken)
    {
        taken = Math.Min(_bodyLeft, input.Length);
        var piece = input[..taken];
        if (_skipping)
        {
            // Where CR and LF lie in this piece, when they do.
            var lineFeed = _bodyLeft - 1;
            if ((lineFeed < taken && piece[lineFeed] != '\n')
                || (lineFeed > 0 && lineFeed - 1 < taken && piece[lineFeed - 1] != '\r'))
            {
                return Fail(RespError.InvalidBulkLength);
            }
        }
        else
        {
            Append(piece, _bodyLeft);
        }

        _bodyLeft -= taken;
        if (_bodyLeft > 0)
        {
            return ReadStatus.NeedMore;
        }

        if (!_skipping && !_buffer.Bytes[.._length].EndsWith("\r\n"u8))
        {
            return Fail(RespError.InvalidBulkLength);
        }

        _argumentsLeft--;
        if (_argumentsLeft > 0)
        {
            _step = Step.LengthLine;
            _lineStart = _length;
            return ReadStatus.NeedMore;
        }

        _step = _skipping ? Step.Start : Step.Delivered;
        return _skipping ? ReadStatus.TooLarge : ReadStatus.Command;
    }

    private ReadStatus TakeInline(ReadOnlySpan<byte> input, out int taken)
    {
        switch (TakeLine(input, (byte)'\n', 0, out taken))
        {
            case Line.Partial:
                return ReadStatus.NeedMore;
            case Line.TooLong:
                return Fail(RespError.InlineTooBig);
        }

        var line = _buffer.Bytes[..(_length - 1)];
        line = line.EndsWith("\r"u8) ? line[..^1] : line;
        if (!InlineCommand.TrySplit(line, ref _ranges))
        {
            return Fail(RespError.UnbalancedQuotes);
        }

        _step = Step.Start;
        if (_ranges.Count == 0)
        {
            return ReadStatus.NeedMore;
        }

        foreach (var range in _ranges.Items)
        {
            if (range.Length > _valueBytesMax)
            {
                Skip(_limits.ValueTooLargeText());
                return ReadStatus.TooLarge;
            }
        }

        var rawLength = InlineCommand.MultibulkLength(_ranges.Items);
        if (rawLength > _commandBytesMax)
        {
            Skip(_limits.CommandTooLargeText());
            return ReadStatus.TooLarge;
        }

        var raw = default(GatherBuffer);
        raw.Grow(rawLength, used: 0);
        InlineCommand.WriteMultibulk(line, _ranges.Items, raw.Bytes);
        _buffer.Release();
        _buffer = raw;
        _length = rawLength;
        _step = Step.Delivered;
        return ReadStatus.Command;
    }

    /// <summary>Keeps input up to the line's last byte.</summary>
    /// <param name="end">The byte that the limit on a line counts up to.</param>
    /// <param name="after">How many bytes of the line follow it: 0 or 1.</param>
    private Line TakeLine(ReadOnlySpan<byte> input, byte end, int after, out int taken)
    {
        if (after == 1 && _length > _lineStart && _buffer.Bytes[_length - 1] == end)
        {
            taken = 1;
            Append(input[..1], 1);
            return Line.Whole;
        }

        var found = input.IndexOf(end);
        var text = _length - _lineStart + (long)(found < 0 ? input.Length : found);
        if (text > _limits.LineBytesMax)
        {
            taken = 0;
            return Line.TooLong;
        }

        taken = found < 0 ? input.Length : Math.Min(found + 1 + after, input.Length);
        Append(input[..taken], taken);
        return found >= 0 && taken == found + 1 + after ? Line.Whole : Line.Partial;
    }

    /// <summary>The number of the whole line in the buffer.</summary>
    private bool TryParseLine(out long number)
    {
        var line = _buffer.Bytes[_lineStart.._length];
        number = 0;
        return line[^1] == '\n' && RespNumber.TryParse(line[1..^2], out number);
    }

    /// <summary>From here to its end the command goes by without being kept.</summary>
    private void Skip(byte[] error)
    {
        _error = error;
        _skipping = true;
        ReleaseBuffers();
    }

    private ReadStatus Fail(ReadOnlySpan<byte> error)
    {
        _error = error.ToArray();
        _step = Step.Failed;
        ReleaseBuffers();
        return ReadStatus.ProtocolError;
    }

    /// <param name="expected">Bytes that are certain to follow, the piece included: the buffer need not outgrow them.</param>
    private void Append(ReadOnlySpan<byte> piece, int expected)
    {
        if (_buffer.Length - _length < piece.Length)
        {
            Grow(piece.Length, expected);
        }

        piece.CopyTo(_buffer.Bytes[_length..]);
        _length += piece.Length;
    }

    /// <summary>
    /// Doubles, so that all copying together is linear in the command's size, and so that the buffer is never more than
    /// about twice what has arrived, whatever was announced.
    /// </summary>
    private void Grow(int bytes, int expected)
    {
        var doubled = Math.Min(Math.Max(InitialBytes, _buffer.Length * 2L), _length + (long)Math.Max(expected, InitialBytes));
        _buffer.Grow((int)Math.Max(doubled, _length + (long)bytes), _length);
    }
}

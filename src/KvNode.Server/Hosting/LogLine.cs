using System.Buffers;
using System.Globalization;
using System.Text;
using System.Text.Json;

namespace KvNode.Server.Hosting;

/// <summary>One log line and its two forms, both ending in a line feed.</summary>
/// <param name="Fields">The values named in the message's template; null when there are none.</param>
internal readonly record struct LogLine(
    DateTimeOffset Time,
    LogLevel Level,
    EventId Event,
    string Message,
    Exception? Exception,
    IReadOnlyList<KeyValuePair<string, object?>>? Fields)
{
    private const string TemplateField = "{OriginalFormat}";

    private string TimeText => Time.UtcDateTime.ToString("yyyy-MM-dd'T'HH:mm:ss.fff'Z'", CultureInfo.InvariantCulture);

    private string LevelText => Level switch
    {
        LogLevel.Trace or LogLevel.Debug => "debug",
        LogLevel.Information => "info",
        LogLevel.Warning => "warning",
        LogLevel.Error => "error",
        _ => "critical",
    };

    public byte[] Format(LogFormat format) => format == LogFormat.Json ? FormatJson() : FormatText();

    /// <summary><c>time level event message</c>; an exception follows on lines of its own, indented.</summary>
    private byte[] FormatText()
    {
        var text = new StringBuilder(160);
        _ = text.Append(TimeText).Append(' ').Append(LevelText).Append(' ').Append(Event.Id).Append(' ');
        AppendPrintable(text, Cut(Message));
        _ = text.Append('\n');
        if (Exception is not null)
        {
            foreach (var line in Exception.ToString().Split('\n'))
            {
                _ = text.Append("    ");
                AppendPrintable(text, line.TrimEnd('\r'));
                _ = text.Append('\n');
            }
        }

        return Encoding.UTF8.GetBytes(text.ToString());
    }

    /// <summary><c>{"time":…,"level":…,"event":…,"name":…,"message":…,"fields":{…},"exception":…}</c></summary>
    private byte[] FormatJson()
    {
        var bytes = new ArrayBufferWriter<byte>(256);
        using (var json = new Utf8JsonWriter(bytes))
        {
            json.WriteStartObject();
            json.WriteString("time"u8, TimeText);
            json.WriteString("level"u8, LevelText);
            json.WriteNumber("event"u8, Event.Id);
            if (Event.Name is not null)
            {
                json.WriteString("name"u8, Event.Name);
            }

            json.WriteString("message"u8, Cut(Message));
            WriteFields(json);
            if (Exception is not null)
            {
                json.WriteString("exception"u8, Exception.ToString());
            }

            json.WriteEndObject();
        }

        bytes.Write("\n"u8);
        return bytes.WrittenSpan.ToArray();
    }

    private void WriteFields(Utf8JsonWriter json)
    {
        if (Fields is null)
        {
            return;
        }

        json.WriteStartObject("fields"u8);
        foreach (var (name, value) in Fields)
        {
            if (name == TemplateField)
            {
                continue;
            }

            json.WritePropertyName(name);
            switch (value)
            {
                case null:
                    json.WriteNullValue();
                    break;
                case int number:
                    json.WriteNumberValue(number);
                    break;
                case long number:
                    json.WriteNumberValue(number);
                    break;
                case ulong number:
                    json.WriteNumberValue(number);
                    break;
                case bool truth:
                    json.WriteBooleanValue(truth);
                    break;
                default:
                    json.WriteStringValue(Cut(value.ToString() ?? ""));
                    break;
            }
        }

        json.WriteEndObject();
    }

    private static string Cut(string text) =>
        text.Length <= Limits.LogMessageCharsMax ? text : text[..Limits.LogMessageCharsMax] + " (cut)";

    /// <summary>What a client sent may be part of a message: it must not be able to forge a line or drive a terminal.</summary>
    private static void AppendPrintable(StringBuilder text, string message)
    {
        foreach (var c in message)
        {
            _ = char.IsControl(c) ? text.Append("\\x").Append(((int)c).ToString("x2", CultureInfo.InvariantCulture)) : text.Append(c);
        }
    }
}

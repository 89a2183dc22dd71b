// Says which of the YAML files that are given, after a schema, the schema refuses: a line for each, with why. A file
// that ends with .md has its YAML between two lines of ---.
import {readFileSync} from 'node:fs';
import Ajv from 'ajv/dist/2020.js';
import {parse} from 'yaml';

const [schema, ...files] = process.argv.slice(2);
const ajv = new Ajv({strict: true, allowUnionTypes: true, allErrors: true});
const validate = ajv.compile(JSON.parse(readFileSync(schema, 'utf8')));
for (const file of files) {
    let text = readFileSync(file, 'utf8');
    if (file.endsWith('.md')) {
        text = text.split(/^---$/m)[1];
    }
    if (!validate(parse(text))) {
        const why = validate.errors.map((e) => `${e.instancePath} ${e.message}`);
        console.log(`${file}: ${why[0]}`);
    }
}
